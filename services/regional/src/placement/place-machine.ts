/**
 * Puts a new machine on a node: check the image, reserve, commit; the next candidate on a refusal. A commit carries
 * the fence of its reservation, so a worker never makes a machine out of room that it has given away by then. Once a
 * commit was sent and not answered, the machine may exist, so no other node is asked: the same commit is sent
 * again, which a worker answers with what it has.
 */
import { setTimeout as delay } from "node:timers/promises";
import { HearthError, type HearthErrorCode } from "@hearth/errors";
import type { MachineAnswer, NodeFact, PlacementReport, ReserveAnswer, WorkerRequest } from "@hearth/machine";
import type { WorkerClient } from "../state/worker-client.ts";
import type { ImageCheck } from "./image-check.ts";
import { firstWordLimitMs, type NodeIndex } from "./node-index.ts";
import { type Considered, noCapacity, type PlacementRequest, placementReport } from "./placement.ts";

const reserveLimitMs = 3_000;
/** Longer than all attempts of a commit take together. */
const reservationMs = 60_000;
const commitAttempts = 3;
const commitPauseMs = 250;
/** In a region of more nodes, only those that were looked at are accounted for when a machine was placed. */
const fullAccountNodes = 256;

export interface PlaceDeps {
  readonly worker: WorkerClient;
  readonly images: ImageCheck;
  readonly nodes: NodeIndex;
}

export type NewMachine = Omit<WorkerRequest<"commit">, "region" | "fence" | "placement">;

export interface Placed {
  readonly answer: MachineAnswer;
  readonly report: PlacementReport;
}

/**
 * @param machinesOfApp by node
 * @throws HearthError `insufficient_capacity` naming who was considered; what the image check throws
 */
export async function placeMachine(
  deps: PlaceDeps,
  machine: NewMachine,
  request: PlacementRequest,
  machinesOfApp: ReadonlyMap<string, number>,
): Promise<Placed> {
  const { nodes } = deps;
  const asked: Considered[] = [];
  const isAsked = new Set<string>();
  let imageFault: HearthError | undefined;
  do {
    for (const node of nodes.candidates(request, machinesOfApp)) {
      if (isAsked.has(node.node_id)) continue;
      isAsked.add(node.node_id);
      const account = (): PlacementReport => accountOf(deps, request, machinesOfApp, asked, node.node_id);
      const tried = await tryNode(deps, node, machine, account);
      if ("answer" in tried) return tried;
      imageFault ??= tried.imageFault;
      asked.push({ node_id: node.node_id, code: tried.code, reason: tried.reason });
    }
  } while (await nodes.hearsMore(firstWordLimitMs));
  throw imageFault ?? noCapacity(request, accountOf(deps, request, machinesOfApp, asked));
}

interface Passed extends Pick<Considered, "code" | "reason"> {
  readonly imageFault?: HearthError;
}

async function tryNode(
  deps: PlaceDeps,
  node: NodeFact,
  machine: NewMachine,
  account: () => PlacementReport,
): Promise<Placed | Passed> {
  try {
    await deps.images.check(node.node_id, machine.config.image);
  } catch (thrown) {
    // Imported images are only on some nodes, so another node may have what this one cannot get.
    const imageFault = HearthError.from(thrown);
    return { code: "image", reason: imageFault.message, imageFault };
  }
  const held = await reserve(deps, node, machine);
  if ("reason" in held) return held;
  const report = account();
  const request = { ...machine, region: node.region, fence: held.fence, placement: report };
  const answer = await commit(deps, node, request);
  return "record" in answer ? { answer, report } : answer;
}

function accountOf(
  { nodes }: PlaceDeps,
  request: PlacementRequest,
  machinesOfApp: ReadonlyMap<string, number>,
  asked: readonly Considered[],
  chosen?: string,
): PlacementReport {
  if (chosen !== undefined && nodes.size > fullAccountNodes)
    return placementReport(nodes.size, asked, nodes.tooSmall(request), chosen);
  const isAsked = new Set([...asked.map(({ node_id }) => node_id), chosen]);
  const others = nodes.judge(request, machinesOfApp).filter(({ node_id }) => !isAsked.has(node_id));
  return placementReport(nodes.size, asked, others, chosen);
}

const mistakes: ReadonlySet<HearthErrorCode> = new Set<HearthErrorCode>([
  "invalid_argument",
  "machine_memory_too_small",
]);

async function reserve(
  deps: PlaceDeps,
  node: NodeFact,
  machine: NewMachine,
): Promise<ReserveAnswer | Passed> {
  const { cpus, memory_mb } = machine.config.guest as { cpus: number; memory_mb: number };
  const request = { machine_id: machine.machine_id, guest: { cpus, memory_mb }, ttl_ms: reservationMs };
  try {
    const held = (await deps.worker.command(
      node.node_id,
      "reserve",
      request,
      reserveLimitMs,
    )) as ReserveAnswer;
    deps.nodes.correct(node.node_id, held);
    return held;
  } catch (thrown) {
    const error = HearthError.from(thrown);
    if (mistakes.has(error.code)) throw error;
    if (error.code === "insufficient_capacity") deps.nodes.correct(node.node_id, error.details ?? {});
    return isSilence(error)
      ? { code: "no_answer", reason: "does not answer" }
      : { code: "refused", reason: `refused: ${error.message}` };
  }
}

const isSilence = ({ code }: HearthError): boolean => code === "unavailable" || code === "deadline_exceeded";

/** The room that was held may have been given away by now, and the worker says so. */
const givenAway: ReadonlySet<HearthErrorCode> = new Set<HearthErrorCode>([
  "insufficient_capacity",
  "reservation_expired",
  "reservation_not_held",
]);

async function commit(
  deps: PlaceDeps,
  node: NodeFact,
  request: WorkerRequest<"commit">,
): Promise<MachineAnswer | Passed> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await deps.worker.change(node.node_id, "commit", request);
    } catch (thrown) {
      const error = HearthError.from(thrown);
      if (givenAway.has(error.code)) return { code: "refused", reason: `refused: ${error.message}` };
      if (!isSilence(error)) throw error;
      if (attempt < commitAttempts) {
        await delay(commitPauseMs * attempt);
        continue;
      }
      throw new HearthError("unavailable", {
        message: `Node ${node.node_id} stopped answering while it took the machine ${request.machine_id}; look whether it appears before you create another.`,
        details: { node_id: node.node_id, machine_id: request.machine_id, in_doubt: true },
        cause: error,
      });
    }
  }
}
