/**
 * Puts a new machine on a node: check the image, reserve, commit; the next candidate on a refusal. Once a
 * commit was sent and not answered, the machine may exist, so no other node is asked: the same commit is sent
 * again, which a worker answers with what it has.
 */
import { setTimeout as delay } from "node:timers/promises";
import { HearthError, type HearthErrorCode } from "@hearth/errors";
import type { MachineAnswer, NodeFact, WorkerRequest } from "@hearth/machine";
import type { ImageCheck } from "./image-check.ts";
import { type Considered, noCapacity, type PlacementRequest, type Ranking } from "./placement.ts";
import type { WorkerClient } from "./worker-client.ts";

const reserveLimitMs = 3_000;
const reservationMs = 60_000;
const commitAttempts = 3;
const commitPauseMs = 250;

export interface PlaceDeps {
  readonly worker: WorkerClient;
  readonly images: ImageCheck;
  readonly nowMs: () => number;
}

export type NewMachine = Omit<WorkerRequest<"commit">, "region">;

export interface Placed {
  readonly answer: MachineAnswer;
  readonly nodeId: string;
}

/** @throws HearthError `insufficient_capacity` naming who was considered; what the image check throws */
export async function placeMachine(
  deps: PlaceDeps,
  machine: NewMachine,
  request: PlacementRequest,
  ranking: Ranking,
): Promise<Placed> {
  const considered: Considered[] = [...ranking.refused];
  let imageFault: HearthError | undefined;
  for (const node of ranking.candidates) {
    try {
      await deps.images.check(node.node_id, machine.config.image);
    } catch (thrown) {
      // Imported images are only on some nodes, so another node may have what this one cannot get.
      imageFault ??= HearthError.from(thrown);
      considered.push({ node_id: node.node_id, reason: HearthError.from(thrown).message });
      continue;
    }
    const refused = await reserve(deps, node, machine);
    if (refused === undefined) {
      const answer = await commit(deps, node, machine);
      if ("record" in answer) return { answer, nodeId: node.node_id };
      considered.push({ node_id: node.node_id, reason: answer.refused });
    } else considered.push({ node_id: node.node_id, reason: refused });
  }
  throw imageFault ?? noCapacity(request, considered);
}

const mistakes: ReadonlySet<HearthErrorCode> = new Set<HearthErrorCode>([
  "invalid_argument",
  "machine_memory_too_small",
]);

/** Answers why not, or nothing when the room is held. */
async function reserve(deps: PlaceDeps, node: NodeFact, machine: NewMachine): Promise<string | undefined> {
  const { cpus, memory_mb } = machine.config.guest as { cpus: number; memory_mb: number };
  const request = {
    machine_id: machine.machine_id,
    guest: { cpus, memory_mb },
    expires_at_ms: deps.nowMs() + reservationMs,
  };
  try {
    await deps.worker.command(node.node_id, "reserve", request, reserveLimitMs);
    return undefined;
  } catch (thrown) {
    const error = HearthError.from(thrown);
    if (mistakes.has(error.code)) throw error;
    return error.code === "unavailable" || error.code === "deadline_exceeded"
      ? "does not answer"
      : `refused: ${error.message}`;
  }
}

type Committed = MachineAnswer | { readonly refused: string };

async function commit(deps: PlaceDeps, node: NodeFact, machine: NewMachine): Promise<Committed> {
  const request = { ...machine, region: node.region };
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await deps.worker.change(node.node_id, "commit", request);
    } catch (thrown) {
      const error = HearthError.from(thrown);
      const inDoubt = error.code === "deadline_exceeded" || error.code === "unavailable";
      // The room that was held may have been given away by now.
      if (error.code === "insufficient_capacity") return { refused: `refused: ${error.message}` };
      if (!inDoubt) throw error;
      if (attempt < commitAttempts) {
        await delay(commitPauseMs * attempt);
        continue;
      }
      throw new HearthError("unavailable", {
        message: `Node ${node.node_id} stopped answering while it took the machine ${machine.machine_id}; look whether it appears before you create another.`,
        details: { node_id: node.node_id, machine_id: machine.machine_id, in_doubt: true },
        cause: error,
      });
    }
  }
}
