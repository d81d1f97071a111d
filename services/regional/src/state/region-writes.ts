/** Decisions about nodes and machines: each by compare-and-set, so that of two API processes one decides. */
import type { FactStore } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import {
  factKeys,
  type LeaseFact,
  type NodePolicyFact,
  newInstanceId,
  type PlacementFact,
} from "@hearth/machine";
import type { Logger } from "@hearth/telemetry";
import type { ImageCheck } from "../placement/image-check.ts";
import type { ClusterView, Revised } from "./cluster-view.ts";
import type { WorkerClient } from "./worker-client.ts";
import { writeFact } from "./write-fact.ts";

export interface RegionDeps {
  readonly view: ClusterView;
  readonly facts: () => FactStore;
  readonly worker: Pick<WorkerClient, "command" | "change">;
  readonly images: Pick<ImageCheck, "check">;
  readonly nowMs: () => number;
  readonly randomBytes: (length: number) => Uint8Array;
  readonly logger: Logger;
}

/** Answers false when somebody else has decided meanwhile. When it answers, the own replica has the decision, on disk. */
async function decide(deps: RegionDeps, key: string, value: unknown, revision: number): Promise<boolean> {
  try {
    await writeFact(deps, { key, value, expectedRevision: revision });
    return true;
  } catch (thrown) {
    const error = HearthError.from(thrown);
    if (error.code === "conflict") return false;
    throw error;
  }
}

export const decideLease = (deps: RegionDeps, value: LeaseFact, revision: number): Promise<boolean> =>
  decide(deps, factKeys.lease(value.node_id), value, revision);

export const decidePolicy = (deps: RegionDeps, value: NodePolicyFact, revision: number): Promise<boolean> =>
  decide(deps, factKeys.nodePolicy(value.node_id), value, revision);

export const dropPlacement = (deps: RegionDeps, { value, revision }: Revised<PlacementFact>) =>
  decide(deps, factKeys.placement(value.machine_id), undefined, revision);

type NewPlacement = Pick<
  PlacementFact,
  "machine_id" | "app" | "node_id" | "from_node_id" | "reason" | "state" | "launch"
> & { readonly why?: string | undefined };

/** @param known what this one follows on; its term is one more */
export function decidePlacement(
  deps: RegionDeps,
  { why, ...wanted }: NewPlacement,
  known: Revised<PlacementFact> | undefined,
): Promise<boolean> {
  const value: PlacementFact = {
    ...wanted,
    term: (known?.value.term ?? 0) + 1,
    instance_id: newInstanceId(deps.randomBytes, deps.nowMs),
    moved_at_ms: deps.nowMs(),
    ...(why === undefined ? {} : { why }),
  };
  return decide(deps, factKeys.placement(value.machine_id), value, known?.revision ?? 0);
}

/** The next state of the same decision. */
export function advancePlacement(
  deps: RegionDeps,
  { value, revision }: Revised<PlacementFact>,
  changes: Partial<PlacementFact>,
): Promise<boolean> {
  const next = { ...value, ...changes };
  return decide(deps, factKeys.placement(value.machine_id), next, revision);
}
