/**
 * Gives back what only the start of a process needed. Loading modules leaves some ten megabytes of pages that V8
 * would keep for garbage to come, and a service that mostly waits makes little of it. The collection that
 * V8 otherwise makes only when memory is about to run out is the one that returns pages to the system; it takes
 * some 50 ms, once.
 */
import { flushCompileCache } from "node:module";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

const startedAfterMs = 3_000;

type Collect = (options: {
  readonly type: "major";
  readonly execution: "sync";
  readonly flavor: "last-resort";
}) => void;

/** Some seconds from now: what the first requests load is there by then. */
export function releaseStartupMemory(): void {
  setTimeout(release, startedAfterMs).unref();
}

function release(): void {
  // Written now rather than at exit, so that a process after a crash starts as fast as any other.
  flushCompileCache();
  // The flag is what puts gc into contexts made after it; V8 has no other door to this collection.
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  setFlagsFromString("--no-expose-gc");
  if (typeof collect === "function")
    (collect as Collect)({ type: "major", execution: "sync", flavor: "last-resort" });
}
