/**
 * Finds out whether the stream still has what a replica has of it.
 *
 * The stream keeps the newest message of each key, so what it lost is missing from its end: one message that is there
 * with the same sequence and the same clock proves that everything before it is. The look goes down from the
 * replica's newest fact to the first that is there. A fact that is neither there nor overwritten after the replica's
 * position was lost; its sequence may have been used again, which is why sequences alone are not compared.
 */
import type { JetStreamManager } from "@nats-io/jetstream";
import { versionOf } from "./fact-version.ts";
import type { ReplicaFact } from "./replica-store.ts";
import { messageOf, storedMessage } from "./state-stream.ts";

const together = 32;
/** Then the whole stream is read again, which is always right. */
const longestLook = 20_000;

/**
 * @param newest the replica's facts of this stream, the newest first
 * @returns the revision up to which the stream has everything; undefined when it has lost nothing
 */
export async function findCut(
  manager: JetStreamManager,
  newest: (from: number, count: number) => readonly ReplicaFact[],
  at: { readonly stream: string; readonly revision: number },
): Promise<number | undefined> {
  let isLost = false;
  let looked = 0;
  // Most often the first one is there, and the look is over.
  while (looked < longestLook) {
    const some = newest(looked, looked === 0 ? 1 : together);
    if (some.length === 0) break;
    looked += some.length;
    const messages = await Promise.all(some.map(({ key }) => messageOf(manager, key)));
    for (const [index, fact] of some.entries()) {
      const message = messages[index];
      const there = message === undefined ? undefined : versionOf(storedMessage(message), at.stream);
      if (there?.sequence === fact.revision && there.clock === fact.origin.clock)
        return isLost ? fact.revision : undefined;
      if (there === undefined || there.sequence <= at.revision) isLost = true;
    }
  }
  return looked === 0 ? undefined : 0;
}
