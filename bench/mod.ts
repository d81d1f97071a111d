/** Side-by-side measurements: `npm run bench -- <name> [--json]`. */
import { measureDns } from "./src/dns.ts";
import { measureFacts } from "./src/facts.ts";
import { measureIdleMemory } from "./src/idle-memory.ts";
import { measureIngress } from "./src/ingress.ts";
import { measureJournal } from "./src/journal.ts";
import { measureLifecycle } from "./src/lifecycle.ts";
import { measureNetwork } from "./src/network.ts";
import { measurePlacement } from "./src/placement.ts";
import { measureWorkerStart } from "./src/worker-start.ts";

const benches: Readonly<
  Record<string, (runs: number, flags: readonly string[]) => Promise<Record<string, unknown>>>
> = {
  dns: measureDns,
  facts: measureFacts,
  ingress: measureIngress,
  journal: measureJournal,
  lifecycle: measureLifecycle,
  "idle-memory": measureIdleMemory,
  network: measureNetwork,
  placement: measurePlacement,
  "worker-start": measureWorkerStart,
};

const [name = "", ...flags] = process.argv.slice(2);
const bench = Object.hasOwn(benches, name) ? benches[name] : undefined;
const runs = Number(flags.find((flag) => flag.startsWith("--runs="))?.slice("--runs=".length) ?? 15);
if (bench === undefined || !Number.isInteger(runs) || runs < 1) {
  process.stderr.write(`usage: npm run bench -- <${Object.keys(benches).join(" | ")}> [--runs=N] [--json]\n`);
  process.exitCode = 2;
} else {
  const result = await bench(runs, flags);
  if (flags.includes("--json")) process.stdout.write(`${JSON.stringify(result)}\n`);
  else for (const [key, value] of Object.entries(result)) console.log(`${key}: ${JSON.stringify(value)}`);
}
