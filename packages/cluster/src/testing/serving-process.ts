/** A process of its own that carries out commands of the node `n1`, and prints each: `<server url> <user> <pass>`. */
import { writeSync } from "node:fs";
import { connectBus } from "../bus.ts";

const [servers = "", user = "", pass = ""] = process.argv.slice(2);
const bus = await connectBus({ servers, user, pass });
const note = (payload: unknown): string => {
  writeSync(1, `${JSON.stringify(payload)}\n`);
  return new Date().toISOString();
};
bus.serve("n1", "worker", { act: note });
await bus.flush();
note("serving");
