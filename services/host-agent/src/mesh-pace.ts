/**
 * How long the mesh rests between two turns: pure. What the host itself has begun is seen to often. A peer that does not
 * answer may not for days, and WireGuard goes on trying by itself, so that is looked at ever less often.
 */

/** changing: an interface or a change of keys is on its way. connecting: keys were not agreed on with some peer. */
export type MeshTurn = "changing" | "connecting" | "quiet";

export const quietMs = 5_000;
const busyMs = 500;

/** @param sameTurns how often in a row the turn ended so before, with no news between */
export function restMs(turn: MeshTurn, sameTurns: number): number {
  if (turn === "quiet") return quietMs;
  return turn === "changing" ? busyMs : Math.min(quietMs, busyMs * 2 ** Math.min(sameTurns, 10));
}
