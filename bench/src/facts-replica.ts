/**
 * The replica of another host, as a process of its own: says of each machine fact when it was there to be read.
 * Arguments: the bus as JSON, and the path of the replica's file.
 */
import { connectBus, Replica } from "@hearth/cluster";
import { factPrefixes, type MachineFact } from "@hearth/machine";

const [, , nats = "{}", path = ""] = process.argv;
const bus = await connectBus(JSON.parse(nats));
const replica = new Replica({ bus, path });
replica.start();
replica.watch(factPrefixes.machine, ({ value }) => {
  const seenNs = String(process.hrtime.bigint());
  const fact = value as MachineFact | undefined;
  if (fact !== undefined) process.send?.({ machineId: fact.record.id, revision: fact.revision, seenNs });
});
process.send?.("ready");
process.once("disconnect", () => process.exit(0));
