import { crashPoint } from "./crash-point.ts";
import type { WorkerDeps } from "./worker-deps.ts";

type PublishedFacts = Pick<WorkerDeps["facts"], "publish" | "delete">;

/** The facts of a worker, with the places where it may die around each publication. */
export function withCrashPoints(facts: PublishedFacts): PublishedFacts {
  return {
    publish: async (...fact) => {
      crashPoint("publish fact", "before");
      const published = await facts.publish(...fact);
      crashPoint("publish fact", "after");
      return published;
    },
    delete: async (...fact) => {
      crashPoint("delete fact", "before");
      const deleted = await facts.delete(...fact);
      crashPoint("delete fact", "after");
      return deleted;
    },
  };
}
