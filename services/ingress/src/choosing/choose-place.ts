/**
 * Which machine gets a request: pure. Of those that are ready and below their hard limit: below the soft limit before
 * above it, this host before others, the least loaded before the rest; those that are equal take turns.
 */
import type { Place } from "../routes/find-target.ts";
import { noOtherLoads, type OtherLoads } from "./other-loads.ts";

/** What this process has at one service of one machine. */
export interface Load {
  active: number;
  /** Monotonic; a connection failed, and until then others come first. */
  avoidUntilMs: number;
  /** Monotonic; when it last had something to do. */
  busyMs: number;
  /** Monotonic; since when it takes traffic, undefined while it does not. */
  readyMs: number | undefined;
  /** It is about to be stopped. */
  draining: boolean;
}

export interface LoadedPlace extends Place {
  readonly load: Load;
}

export interface ChoiceContext {
  readonly nodeId: string;
  readonly nowMs: number;
  readonly tried: ReadonlySet<string>;
  /** Any number; those that are equal take turns by it. */
  readonly turn: number;
  readonly others?: OtherLoads;
}

export function choosePlace(
  places: readonly LoadedPlace[],
  { nodeId, nowMs, tried, turn, others = noOtherLoads }: ChoiceContext,
): LoadedPlace | undefined {
  let best: LoadedPlace | undefined;
  let bestRank = Number.POSITIVE_INFINITY;
  const count = places.length;
  for (let step = 0; step < count; step += 1) {
    const place = places[(turn + step) % count];
    if (place === undefined || tried.has(place.endpoint.id)) continue;
    const active = activeAt(place, others);
    if (!isOpen(place, active)) continue;
    const rank = rankOf(place, active, { nodeId, nowMs });
    if (rank < bestRank) {
      best = place;
      bestRank = rank;
    }
  }
  return best;
}

const activeAt = ({ endpoint, service, load }: LoadedPlace, others: OtherLoads): number =>
  load.active + others.of(endpoint.id, service.internalPort);

/** Whether it takes one request more. */
const isOpen = ({ endpoint, service, load }: LoadedPlace, active: number): boolean =>
  endpoint.state === "ready" && !load.draining && active < service.hardLimit;

export const isAboveSoft = (place: LoadedPlace, others: OtherLoads): boolean =>
  activeAt(place, others) >= place.service.softLimit;

/** A number, so that comparing costs nothing: each part is larger than all below it together. */
function rankOf(
  { load, endpoint, service }: LoadedPlace,
  active: number,
  { nodeId, nowMs }: Pick<ChoiceContext, "nodeId" | "nowMs">,
): number {
  const avoided = load.avoidUntilMs > nowMs ? 4e9 : 0;
  const far = endpoint.nodeId === nodeId ? 0 : 1e9;
  if (active < service.softLimit) return avoided + far + active;
  return avoided + 2e9 + (active / service.softLimit) * 1e3 + far / 1e9;
}
