import type { DatabaseSync } from "node:sqlite";
import type { WorkerDeps } from "../worker-deps.ts";
import { crashPoint } from "./crash-point.ts";

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

/** Unique to this database for ever: a new one must not repeat the message ids of an old one. */
export function ownerId(database: DatabaseSync, randomBytes: (length: number) => Uint8Array): string {
  const made = Buffer.from(randomBytes(8)).toString("hex");
  database.prepare("INSERT INTO meta (key, value) VALUES ('owner_id', ?) ON CONFLICT DO NOTHING").run(made);
  return String(database.prepare("SELECT value FROM meta WHERE key = 'owner_id'").get()?.value);
}
