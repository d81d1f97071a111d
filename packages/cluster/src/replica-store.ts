/** The replica's copy on disk: what a node knows of the cluster when it starts with the bus down. */
import { DatabaseSync } from "node:sqlite";

/** One key as the cluster last had it. A deleted key keeps its revision, and `value` is undefined. */
export interface Fact {
  readonly key: string;
  readonly value: unknown;
  readonly revision: number;
}

export interface ReplicaPosition {
  /** Which stream the revisions belong to; a stream that was made anew counts from 1 again. */
  readonly stream: string;
  /** Every change up to this revision is here. */
  readonly revision: number;
  /** Wall clock, milliseconds: when this copy was last known to be the newest. */
  readonly checkedAtMs: number;
}

export class ReplicaStore {
  readonly #database: DatabaseSync;

  constructor(path: string) {
    this.#database = new DatabaseSync(path);
    // An acknowledged regional write counts on this copy, so a commit has to be on the disk.
    this.#database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");
    this.#database.exec(`
      CREATE TABLE IF NOT EXISTS fact (key TEXT PRIMARY KEY, value TEXT, revision INTEGER NOT NULL) STRICT;
      CREATE TABLE IF NOT EXISTS position (
        id INTEGER PRIMARY KEY CHECK (id = 1), stream TEXT NOT NULL, revision INTEGER NOT NULL, checked_at INTEGER NOT NULL
      ) STRICT;`);
  }

  facts(): Fact[] {
    const rows = this.#database.prepare("SELECT key, value, revision FROM fact").all();
    return rows.map((row) => ({
      key: String(row.key),
      value: row.value === null ? undefined : JSON.parse(String(row.value)),
      revision: Number(row.revision),
    }));
  }

  position(): ReplicaPosition | undefined {
    const row = this.#database.prepare("SELECT stream, revision, checked_at FROM position").get();
    if (row === undefined) return undefined;
    return {
      stream: String(row.stream),
      revision: Number(row.revision),
      checkedAtMs: Number(row.checked_at),
    };
  }

  /** One transaction: the facts and the position they lead to. */
  save(facts: readonly Fact[], position: ReplicaPosition): void {
    this.#database.exec("BEGIN IMMEDIATE");
    try {
      const put = this.#database.prepare(
        "INSERT INTO fact (key, value, revision) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision",
      );
      for (const fact of facts) {
        put.run(fact.key, fact.value === undefined ? null : JSON.stringify(fact.value), fact.revision);
      }
      this.#database
        .prepare("INSERT OR REPLACE INTO position (id, stream, revision, checked_at) VALUES (1, ?, ?, ?)")
        .run(position.stream, position.revision, Math.round(position.checkedAtMs));
      this.#database.exec("COMMIT");
    } catch (error) {
      this.#database.exec("ROLLBACK");
      throw error;
    }
  }

  close(): void {
    this.#database.close();
  }
}
