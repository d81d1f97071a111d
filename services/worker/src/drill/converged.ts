/** What every drill asks of a node: which points an operation visits, and whether all is as it must be after it. */
import { join } from "node:path";
import type { MachineRecord } from "@hearth/machine";
import { look } from "../host/inspector.ts";
import { slotOwners } from "../slots/slot-pool.ts";
import { type DrillNode, eventually, readLines } from "./drill-node.ts";
import { type DrillMachine, newDrillMachine, type Operation, recordOf } from "./operations.ts";

export const convergeMs = 60_000;
/** From the acknowledgement of a fact to a replica that has it on its disk. */
const toldMs = 5_000;
/** A recovery visits about as many points; a later number is a recovery that was not killed. */
export const recoveryVisits = 24;

/** The points that an operation visits when nothing happens to it, in order. */
export async function trace(node: DrillNode, operation: Operation): Promise<string[]> {
  const machine = newDrillMachine(operation.config);
  const path = join(node.config.data_dir, `trace-${machine.id}`);
  await operation.before(node, machine);
  if (operation.name === "take-over" || operation.name === "reboot") {
    // What they visit is a start of the worker, which is over before a trace could be asked for: it is found
    // by dying at the first visit, the second, and so on, so all that is needed here is how many there are.
    await clear(node, machine);
    return Array.from({ length: recoveryVisits }, (_, index) => `start of the worker, visit ${index + 1}`);
  }
  await node.order({ kind: "trace", path });
  await operation.ask(node, machine);
  await converged(node, operation, machine);
  const visited = readLines(path);
  await node.endWorker("SIGTERM");
  await node.startWorker();
  await clear(node, machine);
  return visited;
}

export async function isIdle(node: DrillNode, machineId: string): Promise<boolean> {
  const open = node.rows("SELECT machine_id FROM runs WHERE state IN ('running', 'undoing')");
  const unsent = node.rows("SELECT id FROM outbox LIMIT 1");
  return unsent.length === 0 && !open.some((run) => run.machine_id === machineId);
}

export async function converged(
  node: DrillNode,
  operation: Operation,
  machine: DrillMachine,
): Promise<MachineRecord> {
  let last: MachineRecord | undefined;
  return eventually(
    `${operation.name} of ${machine.id} is done`,
    async () => {
      last = await recordOf(node, machine.id);
      const holds = last !== undefined && operation.holds(last, machine);
      return holds && (await isIdle(node, machine.id)) ? last : undefined;
    },
    convergeMs,
  ).catch((error: Error) => {
    throw new Error(`${error.message}; it is ${last?.state}: ${JSON.stringify(last?.events.slice(0, 4))}`);
  });
}

/** The VM of a machine, once nothing is being done to it. */
export async function quiet(node: DrillNode, machineId: string): Promise<string> {
  return eventually(
    "the machine is left alone",
    async () => {
      if (!(await isIdle(node, machineId))) return undefined;
      return vmOf(node, machineId);
    },
    convergeMs,
  );
}

const vmOf = (node: DrillNode, machineId: string): string =>
  String(
    node.rows("SELECT machine_id, handle FROM machines").find((row) => row.machine_id === machineId)?.handle,
  );

export async function violated(
  node: DrillNode,
  { id }: DrillMachine,
  vm: string | undefined,
): Promise<string | undefined> {
  const { differences } = await node.inspect();
  if (differences.length > 0) return `differences: ${JSON.stringify(differences)}`;
  const times = (await listed(node)).filter((one) => one === id).length;
  if (times !== 1) return `it is listed ${times} times`;
  if (vm !== undefined && vmOf(node, id) !== vm) return "it has another virtual machine than before";
  return untold(node, id);
}

/** The ids of all machines that the worker answers with, page by page. */
async function listed(node: DrillNode): Promise<string[]> {
  const ids: string[] = [];
  for (;;) {
    const request = { include_destroyed: true, ...(ids.length === 0 ? {} : { after: ids.at(-1) }) };
    const page = (await node.command("list", request)) as { id: string }[];
    if (page.length === 0) return ids;
    ids.push(...page.map((one) => one.id));
  }
}

/** With nothing left to send, the cluster has the machine as its worker has it; of one that is gone, nothing. */
async function untold(node: DrillNode, id: string): Promise<string | undefined> {
  const told = async (): Promise<true | undefined> => {
    const rows = node.rows("SELECT machine_id, revision, state FROM machines");
    const row = rows.find(({ machine_id }) => machine_id === id);
    const fact = node.fact(id);
    if (fact === undefined) return row === undefined || row.state === "destroyed" ? true : undefined;
    return fact.revision === row?.revision && fact.record.state === row.state ? true : undefined;
  };
  return eventually("the cluster knows the machine as it is", told, toldMs).then(
    () => undefined,
    () => `the cluster was told something else: ${JSON.stringify(node.fact(id))?.slice(0, 300)}`,
  );
}

/**
 * At whatever moment a worker dies, what is on the host is in its ledger: it was claimed before it was made, and is
 * released after it is gone. The process of a VM is the ledger's by its run directory, until its record names it; a
 * disk that is being made is by the one that it will be.
 */
export async function unclaimed(node: DrillNode): Promise<string | undefined> {
  const held = new Set(node.rows("SELECT kind, key FROM resources").map(({ kind, key }) => `${kind} ${key}`));
  const { differences } = await node.inspect(look);
  const wrong = differences.filter(({ kind, key, machine_id, problem }) => {
    if (problem !== "unexpected") return false;
    if (kind === "process" || kind === "socket")
      return machine_id === null || !held.has(`vm ${node.paths.runDir(machine_id)}`);
    return kind !== "disk" || !held.has(`scratch ${key.replace(/\.new$/, "")}`);
  });
  return wrong.length === 0
    ? undefined
    : `on the host and in no ledger at the kill: ${JSON.stringify(wrong)}`;
}

/** When every machine is gone, nothing of any may be there. */
export async function leftovers(node: DrillNode): Promise<string | undefined> {
  const held = await heldByMachines(node);
  const { differences } = await node.inspect();
  const left = [...differences, ...held, ...[...node.holders].map((holder) => ({ kind: "image", holder }))];
  return left.length === 0 ? undefined : `left behind: ${JSON.stringify(left)}`;
}

/** What the ledger has beside the slots that are ready; one that is being made is waited for. */
export async function heldByMachines(node: DrillNode): Promise<Record<string, unknown>[]> {
  const held = () => node.rows("SELECT kind, key, machine_id FROM resources");
  await eventually(
    "no slot is being made",
    () => (held().some(({ machine_id }) => machine_id === slotOwners.making) ? undefined : true),
    convergeMs,
  );
  return held().filter(({ machine_id }) => machine_id !== slotOwners.pool);
}

export async function clear(node: DrillNode, { id }: DrillMachine): Promise<void> {
  const record = await recordOf(node, id);
  if (record !== undefined && record.state !== "destroyed")
    await node.command("destroy", { machine_id: id, force: true });
  await eventually(
    `${id} is gone`,
    async () => {
      const now = await recordOf(node, id);
      return (now === undefined || now.state === "destroyed") && (await isIdle(node, id)) ? true : undefined;
    },
    convergeMs,
  );
}
