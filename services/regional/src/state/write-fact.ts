/**
 * How the API writes what it owns: every write that a client is told of goes through here.
 *
 * JetStream acknowledges before it syncs to disk, so its word alone is not enough. A write is done when JetStream has
 * acknowledged it and this process has it in its own replica, by fsync; then a stream that is lost gets it back. A
 * write that did not come so far within the limit may still have been taken, and its error says so. By a copy that is
 * not settled (the bus is away, or the stream has just been lost) nothing is written at all: what others know better
 * may not be back yet.
 */
import type { FactStore, Replica, Written } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";

const diskLimitMs = 5_000;

export interface WriteDeps {
  readonly view: { readonly replica: Replica };
  /** Throws `unavailable` while there is no connection. */
  readonly facts: () => FactStore;
}

export interface FactWrite {
  readonly key: string;
  /** Undefined deletes. */
  readonly value: unknown;
  /** The revision that the key must still have, 0 for none; absent: whatever it is now. */
  readonly expectedRevision?: number;
}

/**
 * Returns the revision.
 * @throws HearthError `conflict` when the key has another revision, `unavailable` when nothing was written, and with
 * `details.in_doubt` when it may have been
 */
export async function writeFact(deps: WriteDeps, write: FactWrite): Promise<number> {
  const { replica } = deps.view;
  const facts = deps.facts();
  if (!replica.isSettled)
    throw new HearthError("unavailable", {
      message: "The state of the region is being compared with what the bus has; try again in a moment.",
    });
  const { stream } = replica;
  let written: Written;
  try {
    written =
      write.expectedRevision === undefined
        ? await facts.write(write.key, write.value)
        : await facts.compareAndWrite(write.key, write.value, write.expectedRevision);
    await replica.waitForWrite(written, { timeoutMs: diskLimitMs });
  } catch (thrown) {
    const error = HearthError.from(thrown);
    throw error.code === "unavailable" || error.code === "deadline_exceeded" ? inDoubt(write, error) : error;
  }
  // On a connection that was made anew meanwhile, the condition was judged by a stream that nobody had looked at.
  if (!replica.isSettled || replica.stream !== stream) throw inDoubt(write);
  return written.revision;
}

const inDoubt = ({ key }: FactWrite, cause?: HearthError): HearthError =>
  new HearthError("unavailable", {
    message:
      "The bus did not confirm the change in time, and it may have been made; look whether it was before you ask again.",
    details: { in_doubt: true, key },
    ...(cause === undefined ? {} : { cause }),
  });
