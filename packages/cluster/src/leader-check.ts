/**
 * Whether whoever answers for the stream still leads it. A server that was cut off from the others answers as its
 * leader for up to 20 s (measured on 2.9.10), while they may have chosen another one after 4 s and taken writes: what
 * it says is the end of the stream is then that of an old copy. It also says when it last heard of each of the others.
 * So long ago, most of them still followed it, and none of these campaigns within 4 s of that.
 */
import type { StreamInfo } from "@nats-io/jetstream";

/** Milliseconds since the answer's server certainly led; infinite when it does not say that it does. */
export function leaderSilenceMs({ cluster }: Pick<StreamInfo, "cluster">): number {
  const peers = cluster?.replicas ?? [];
  if (peers.length === 0) return 0;
  if (!cluster?.leader) return Number.POSITIVE_INFINITY;
  const silentMs = peers
    .map(({ active, offline }) => (offline === true ? Number.POSITIVE_INFINITY : active / 1_000_000))
    .sort((a, b) => a - b);
  // With itself, these are more than half.
  return silentMs[Math.ceil(peers.length / 2) - 1] ?? Number.POSITIVE_INFINITY;
}
