/**
 * How long a worker that starts again takes until it serves: with running machines, which it finds again, and with
 * machines at rest.
 *
 * adopt:   50 real virtual machines run, their worker is killed with SIGKILL, and the next one is started.
 * stopped: 1,000 machines are stopped.
 * empty:   no machine at all: the start of the process itself, of which both of the above have a share.
 *
 * Each figure is from the start of the process to its word that it serves, at which every machine that runs has been
 * taken over; `adopted` counts those that kept their virtual machine.
 */
import { DatabaseSync } from "node:sqlite";
import { busyboxImage, DrillNode, eventually, newDrillMachine, operations, recordOf } from "@hearth/worker";
import { medianOf } from "./median.ts";

const runningMachines = 50;
const stoppedMachines = 1_000;
const startLimitMs = 120_000;
const memoryMb = 96;
const bootsAtOnce = 4;

export async function measureWorkerStart(runs: number): Promise<Record<string, unknown>> {
  await using node = new DrillNode("qemu");
  await node.start(busyboxImage);
  const times = { empty: [] as number[], stopped: [] as number[], adopt: [] as number[] };
  const again = async (into: number[]): Promise<void> => {
    for (let run = 0; run < runs; run += 1) {
      await node.endWorker("SIGKILL");
      const begun = performance.now();
      await node.startWorker();
      into.push(performance.now() - begun);
    }
  };
  await again(times.empty);
  const ids = await startMany(node);
  const before = handles(node);
  await again(times.adopt);
  const after = handles(node);
  const adopted = ids.filter((id) => before.get(id) === after.get(id)).length;
  await node.command("stop-all", { timeout_ms: 10_000 });
  await node.endWorker("SIGTERM");
  await node.startWorker();
  for (const id of ids) await node.command("destroy", { machine_id: id, force: true });
  await makeStopped(node);
  await again(times.stopped);
  return {
    runs,
    adopt_machines: runningMachines,
    adopt_ms: medianOf(times.adopt),
    adopted,
    stopped_machines: stoppedMachines,
    stopped_ms: medianOf(times.stopped),
    empty_ms: medianOf(times.empty),
  };
}

/** A few at a time: fifty kernels that boot at once on two emulating cores would each miss the limit of a boot. */
async function startMany(node: DrillNode): Promise<string[]> {
  const create = operations.find(({ name }) => name === "create");
  const ids: string[] = [];
  while (ids.length < runningMachines) {
    const batch = Array.from({ length: Math.min(bootsAtOnce, runningMachines - ids.length) }, () =>
      newDrillMachine({ guest: { cpus: 1, memory_mb: memoryMb }, init: { exec: ["sleep", "1000000"] } }),
    );
    for (const machine of batch) await create?.ask(node, machine);
    for (const { id } of batch)
      await eventually(
        `${id} is started`,
        async () => ((await recordOf(node, id))?.state === "started" ? true : undefined),
        startLimitMs,
      );
    ids.push(...batch.map(({ id }) => id));
  }
  return ids;
}

const handles = (node: DrillNode): Map<string, string> =>
  new Map(
    node
      .rows("SELECT machine_id, handle FROM machines")
      .map((row) => [String(row.machine_id), `${row.handle}`]),
  );

/** Made unlaunched and then noted as stopped, because a thousand boots would measure nothing more. */
async function makeStopped(node: DrillNode): Promise<void> {
  const create = operations.find(({ name }) => name === "create-unlaunched");
  for (let count = 0; count < stoppedMachines; count += 1) await create?.ask(node, newDrillMachine());
  await node.endWorker("SIGTERM");
  const database = new DatabaseSync(node.paths.database);
  database.exec("UPDATE machines SET state = 'stopped' WHERE state = 'created'");
  database.close();
  await node.startWorker();
}
