/** Puts back into the stream what only a replica still has, by the rules of fact-version.ts. */
import { HearthError } from "@hearth/errors";
import type { JetStreamClient, JetStreamManager } from "@nats-io/jetstream";
import { writeIf } from "./conditional-write.ts";
import { isPutBackOver, putBackHeaders, type StoredVersion, versionOf } from "./fact-version.ts";
import type { ReplicaFact } from "./replica-store.ts";
import { messageOf, storedMessage } from "./state-stream.ts";

const together = 32;
const attempts = 20;
const writeLimitMs = 5_000;

export interface PutBackDeps {
  readonly client: JetStreamClient;
  readonly manager: JetStreamManager;
  /** The stream that is there now. */
  readonly stream: string;
}

/** @returns those that were put back; the others had been overtaken */
export async function putBackFacts(
  deps: PutBackDeps,
  lost: readonly ReplicaFact[],
  signal: AbortSignal,
): Promise<ReplicaFact[]> {
  const restored: ReplicaFact[] = [];
  for (let from = 0; from < lost.length && !signal.aborted; from += together)
    await Promise.all(
      lost.slice(from, from + together).map(async (fact) => {
        if (await putBackFact(deps, fact)) restored.push(fact);
      }),
    );
  return restored;
}

async function putBackFact(deps: PutBackDeps, fact: ReplicaFact): Promise<boolean> {
  const isDeleted = fact.value === undefined;
  let there: StoredVersion | undefined;
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    try {
      await writeIf(deps, {
        key: fact.key,
        text: isDeleted ? "" : JSON.stringify(fact.value),
        headers: putBackHeaders(isDeleted, fact.origin),
        expectedRevision: there?.sequence ?? 0,
        timeoutMs: writeLimitMs,
      });
      return true;
    } catch (error) {
      if (HearthError.from(error).code !== "conflict") throw error;
    }
    const message = await messageOf(deps.manager, fact.key);
    there = message === undefined ? undefined : versionOf(storedMessage(message), deps.stream);
    if (!isPutBackOver(fact.origin, there)) return false;
  }
  throw new HearthError("conflict", { message: `The key ${fact.key} never stood still.` });
}
