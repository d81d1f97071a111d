/**
 * The crash matrix: each operation, with the worker killed at each point that it visits, and once more with the
 * next worker killed while it recovers. After each kill a worker is started and left alone; then the machine must
 * be where the operation brings it, and nothing may be on the host but what the record says.
 *
 * The points are not listed anywhere: a first, unharmed run of an operation tells which it visits.
 */
import {
  clear,
  converged,
  isIdle,
  leftovers,
  quiet,
  recoveryVisits,
  trace,
  unclaimed,
  violated,
} from "./converged.ts";
import { type DrillNode, eventually } from "./drill-node.ts";
import { type DrillMachine, newDrillMachine, type Operation, operations, recordOf } from "./operations.ts";
import { seeded } from "./seeded.ts";

export interface MatrixOptions {
  readonly seed: number;
  /** At most so many kills, spread so that each named point of each operation is there once if it can be. */
  readonly sample?: number | undefined;
  readonly operations?: readonly string[] | undefined;
  readonly onRun?: ((line: string) => void) | undefined;
  /**
   * A new node in place of one that has had its share of the runs. Each run leaves the rows of a destroyed machine, and
   * every start of a worker reads them all: without this the last runs of a matrix take three times as long as the first.
   */
  readonly renew?: ((worn: DrillNode) => Promise<DrillNode>) | undefined;
  /** 50 when absent. */
  readonly runsPerNode?: number | undefined;
}

export interface MatrixResult {
  /** Visits of points, over all operations. */
  readonly points: number;
  /** Different names of points. */
  readonly names: number;
  readonly runs: number;
  readonly converged: number;
  readonly violations: readonly Violation[];
  readonly seed: number;
}

export interface Violation {
  readonly operation: string;
  readonly point: string;
  readonly nth: number;
  /** The visit of the recovering worker at which it was killed too; 0 when it was not. */
  readonly recoveryNth: number;
  readonly message: string;
}

interface Kill {
  readonly operation: Operation;
  readonly point: string;
  readonly nth: number;
  readonly recoveryNth: number;
}

const deathMs = 60_000;
const defaultRunsPerNode = 50;

/** @param nodes share the kills among them; the first one is asked which points there are */
export async function runCrashMatrix(
  nodes: readonly [DrillNode, ...DrillNode[]],
  options: MatrixOptions,
): Promise<MatrixResult> {
  const random = seeded(options.seed);
  const chosen = operations.filter(
    ({ name }) => options.operations === undefined || options.operations.includes(name),
  );
  const kills: Kill[] = [];
  for (const operation of chosen) {
    const visited = await trace(nodes[0], operation);
    options.onRun?.(`${operation.name}: ${visited.length} points`);
    for (const [index, point] of visited.entries()) {
      kills.push({ operation, point, nth: index + 1, recoveryNth: 0 });
      kills.push({
        ...{ operation, point, nth: index + 1 },
        recoveryNth: 1 + Math.floor(random() * recoveryVisits),
      });
    }
  }
  const planned =
    options.sample === undefined ? shuffled(kills, random) : sampled(kills, options.sample, random);
  const violations: Violation[] = [];
  let done = 0;
  const queue = planned.values();
  const { renew, runsPerNode = defaultRunsPerNode } = options;
  const work = async (first: DrillNode): Promise<void> => {
    let node = first;
    let runs = 0;
    for (const kill of queue) {
      if (renew !== undefined && runs > 0 && runs % runsPerNode === 0) node = await renew(node);
      runs += 1;
      const message = await runKill(node, kill).catch(async (error: unknown) => {
        // Not even a worker left alone comes up on it, which must not end all other runs.
        if (renew === undefined) throw error;
        node = await renew(node);
        return `the node could not be used any more: ${error}`;
      });
      const where = `${kill.operation.name} at ${kill.point} (${kill.nth}, recovery ${kill.recoveryNth})`;
      done += 1;
      options.onRun?.(`${done}/${planned.length} ${where}: ${message ?? "converged"}`);
      if (message === undefined) continue;
      const { operation, ...rest } = kill;
      violations.push({ operation: operation.name, ...rest, message });
    }
  };
  await Promise.all(nodes.map(work));
  return {
    points: kills.length / 2,
    names: new Set(kills.map(({ point }) => point)).size,
    runs: planned.length,
    converged: planned.length - violations.length,
    violations,
    seed: options.seed,
  };
}

/** Undefined when all is as it must be, otherwise what is not. */
async function runKill(node: DrillNode, { operation, nth, recoveryNth }: Kill): Promise<string | undefined> {
  const machine = newDrillMachine(operation.config);
  try {
    await operation.before(node, machine);
    const before = await quiet(node, machine.id);
    const atStart = operation.name === "take-over" || operation.name === "reboot";
    let answered = atStart;
    if (atStart) {
      if (operation.name === "reboot") await node.reboot();
      else await node.endWorker("SIGKILL");
      await node.startWorker(nth);
    } else {
      await node.order({ kind: "die", nth });
      await operation.ask(node, machine).then(
        () => {
          answered = true;
        },
        () => undefined,
      );
    }
    await diedOrDone(node, operation, machine);
    const early = node.workerLives ? undefined : await unclaimed(node);
    if (early !== undefined) return await givenUp(node, machine, early);
    if (!node.workerLives) await node.startWorker(recoveryNth === 0 ? undefined : recoveryNth);
    if (recoveryNth > 0) {
      await diedOrDone(node, operation, machine, answered);
      if (!node.workerLives) await node.startWorker();
    }
    // What was answered is promised; what was not is asked again, as its caller would. A recovering worker may
    // come to its own end only now.
    while (!answered) {
      try {
        await operation.ask(node, machine);
        answered = true;
      } catch (error) {
        if (!(await node.diedNow())) throw error;
        await node.startWorker();
      }
    }
    await diedOrDone(node, operation, machine);
    // Points are also visited in the background, so what is left of the count could end a worker that is looked at.
    if (node.workerLives) await node.order({ kind: "spare" }).catch(() => undefined);
    if (!node.workerLives) await node.startWorker();
    await converged(node, operation, machine);
    const wrong = await violated(node, machine, operation.keepsVm === true ? before : undefined);
    if (wrong !== undefined) return wrong;
    // A worker that still counts visits would die at one of them in the next run.
    await node.endWorker("SIGTERM");
    await node.startWorker();
    await clear(node, machine);
    return await leftovers(node);
  } catch (error) {
    return await givenUp(node, machine, error instanceof Error ? error.message : String(error));
  }
}

/** Makes the node fit for the next kill. */
async function givenUp(node: DrillNode, machine: DrillMachine, why: string): Promise<string> {
  const { log } = node;
  await node.endWorker("SIGKILL");
  await node.startWorker();
  await clear(node, machine).catch(() => undefined);
  return `${why}\n${log}`;
}

async function diedOrDone(
  node: DrillNode,
  operation: Operation,
  machine: DrillMachine,
  asked = true,
): Promise<void> {
  let still = 0;
  await eventually(
    "the worker dies, or is done before it does",
    async () => {
      if (!node.workerLives) return true;
      const record = await recordOf(node, machine.id);
      const done = asked ? record !== undefined && operation.holds(record, machine) : true;
      // Its last facts and rows may still be on their way, and are points too.
      still = done && (await isIdle(node, machine.id)) ? still + 1 : 0;
      return still >= 3 ? true : undefined;
    },
    deathMs,
  );
}

/** Each named point of each operation first, then whatever fits. */
function sampled(kills: readonly Kill[], count: number, random: () => number): Kill[] {
  const seen = new Set<string>();
  const [first, rest]: [Kill[], Kill[]] = [[], []];
  for (const kill of shuffled(kills, random)) {
    const key = kill.point;
    (seen.has(key) ? rest : first).push(kill);
    seen.add(key);
  }
  return [...first, ...rest].slice(0, count);
}

function shuffled<T>(list: readonly T[], random: () => number): T[] {
  const copy = [...list];
  for (let index = copy.length - 1; index > 0; index -= 1) {
    const other = Math.floor(random() * (index + 1));
    [copy[index], copy[other]] = [copy[other] as T, copy[index] as T];
  }
  return copy;
}
