/**
 * Which machine gets a request: pure. Of those that are ready and below their hard limit: below the soft limit before
 * above it, this host before others, the least loaded before the rest; those that are equal take turns.
 */
import type { Place } from "./find-target.ts";

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
}

export function choosePlace(
  places: readonly LoadedPlace[],
  { nodeId, nowMs, tried, turn }: ChoiceContext,
): LoadedPlace | undefined {
  let best: LoadedPlace | undefined;
  let bestRank = Number.POSITIVE_INFINITY;
  const count = places.length;
  for (let step = 0; step < count; step += 1) {
    const place = places[(turn + step) % count];
    if (place === undefined || !isOpen(place) || tried.has(place.endpoint.id)) continue;
    const rank = rankOf(place, nodeId, nowMs);
    if (rank < bestRank) {
      best = place;
      bestRank = rank;
    }
  }
  return best;
}

/** Whether it takes one request more. */
export const isOpen = ({ endpoint, service, load }: LoadedPlace): boolean =>
  endpoint.state === "ready" && !load.draining && load.active < service.hardLimit;

export const isAboveSoft = ({ service, load }: LoadedPlace): boolean => load.active >= service.softLimit;

/** A number, so that comparing costs nothing: each part is larger than all below it together. */
function rankOf(place: LoadedPlace, nodeId: string, nowMs: number): number {
  const { load, endpoint, service } = place;
  const avoided = load.avoidUntilMs > nowMs ? 4e9 : 0;
  const far = endpoint.nodeId === nodeId ? 0 : 1e9;
  if (load.active < service.softLimit) return avoided + far + load.active;
  return avoided + 2e9 + (load.active / service.softLimit) * 1e3 + far / 1e9;
}
