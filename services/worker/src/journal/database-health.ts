/**
 * Whether this worker can write its database. While it cannot, nothing that must be on disk first is taken on, the
 * node says so, and running machines are left as they are. A probe that grows slower looks for the end of it.
 *
 * Damage is another matter: what is read may be wrong, so the process ends, and the next one refuses to start.
 */
import type { DatabaseSync } from "node:sqlite";
import type { HearthError } from "@hearth/errors";
import type { Logger } from "@hearth/telemetry";
import type { Clock } from "../worker-deps.ts";
import { databaseCorrupt, databaseFault, databaseUnwritable, faultReason } from "./database-fault.ts";
import { commitIntent } from "./journal.ts";

export interface DatabaseHealthDeps {
  readonly database: DatabaseSync;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly probeMs: { readonly first: number; readonly longest: number };
  /** It can be written again. */
  readonly onRecovered: () => void;
  /** It is damaged. */
  readonly onCorrupt: (error: HearthError) => void;
}

/** A probe has to have this much room, or the next commit would find none again. */
const probeBytes = 64 * 1024;

export class DatabaseHealth {
  readonly #deps: DatabaseHealthDeps;
  readonly #stopping = new AbortController();
  #reason: string | undefined;
  #probing: Promise<void> | undefined;
  #corrupt = false;

  constructor(deps: DatabaseHealthDeps) {
    this.#deps = deps;
  }

  /** Sentences for whoever looks at the node; empty when all is well. */
  get problems(): readonly string[] {
    return this.#reason === undefined ? [] : [databaseUnwritable(this.#reason).message];
  }

  /** @throws HearthError `database_unwritable` while it is so */
  check(): void {
    if (this.#reason !== undefined) throw databaseUnwritable(this.#reason);
  }

  /** Takes notice of what was thrown; returns what a caller is to be told of it. */
  note(thrown: unknown): unknown {
    const fault = databaseFault(thrown);
    if (fault === undefined) return thrown;
    const reason = faultReason(thrown);
    if (fault === "corrupt") {
      const error = databaseCorrupt(this.#deps.database.location() ?? "", reason, thrown);
      if (!this.#corrupt) this.#deps.onCorrupt(error);
      this.#corrupt = true;
      return error;
    }
    if (this.#reason === undefined) {
      this.#reason = reason;
      this.#deps.logger.error({ err: thrown }, "the database cannot be written; no work is taken");
      this.#probing = this.#probe();
    }
    return databaseUnwritable(reason, thrown);
  }

  /** Runs what may write; answers `otherwise` when the database cannot be written. */
  guard<T>(work: () => T, otherwise: T): T {
    if (this.#reason !== undefined) return otherwise;
    try {
      return work();
    } catch (error) {
      if (databaseFault(error) === undefined) throw error;
      this.note(error);
      return otherwise;
    }
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error("the worker stops"));
    await this.#probing;
  }

  async #probe(): Promise<void> {
    const { clock, probeMs, logger, onRecovered } = this.#deps;
    const { signal } = this.#stopping;
    for (let waitMs = probeMs.first; !signal.aborted; waitMs = Math.min(probeMs.longest, waitMs * 2)) {
      await clock.sleep(waitMs, signal).catch(() => undefined);
      if (signal.aborted || !this.#writes()) continue;
      this.#reason = undefined;
      logger.info("the database can be written again");
      onRecovered();
      return;
    }
  }

  #writes(): boolean {
    const { database } = this.#deps;
    const set = "INSERT OR REPLACE INTO meta (key, value) VALUES ('probe', hex(randomblob(?)))";
    try {
      commitIntent(database, () => database.prepare(set).run(probeBytes / 2));
      commitIntent(database, () => database.exec("DELETE FROM meta WHERE key = 'probe'"));
      return true;
    } catch (error) {
      if (databaseFault(error) !== "unwritable") this.note(error);
      return false;
    }
  }
}
