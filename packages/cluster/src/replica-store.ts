/** The replica's copy on disk: what a node knows of the cluster when it starts with the bus down. */
import { DatabaseSync, type SQLOutputValue, type StatementSync } from "node:sqlite";

/** One key as the cluster last had it. A deleted key keeps its revision, and `value` is undefined. */
export interface Fact {
  readonly key: string;
  readonly value: unknown;
  readonly revision: number;
}

/** A fact as it is written: the text that came is the text that is kept. `null` is a deletion. */
export interface FactRow {
  readonly key: string;
  readonly text: string | null;
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
  readonly #get: StatementSync;

  constructor(path: string) {
    this.#database = new DatabaseSync(path);
    // An acknowledged regional write counts on this copy, so a commit has to be on the disk.
    this.#database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");
    this.#database.exec(`
      CREATE TABLE IF NOT EXISTS fact (key TEXT PRIMARY KEY, value TEXT, revision INTEGER NOT NULL) STRICT;
      CREATE TABLE IF NOT EXISTS position (
        id INTEGER PRIMARY KEY CHECK (id = 1), stream TEXT NOT NULL, revision INTEGER NOT NULL, checked_at INTEGER NOT NULL
      ) STRICT;`);
    this.#get = this.#database.prepare("SELECT key, value, revision FROM fact WHERE key = ?");
  }

  /** @param except prefixes of keys that are left out */
  *facts(except: readonly string[] = []): Iterable<Fact> {
    const outside = except.map(() => "NOT (key >= ? AND key < ?)").join(" AND ") || "1";
    const statement = this.#database.prepare(`SELECT key, value, revision FROM fact WHERE ${outside}`);
    const bounds = except.flatMap((prefix) => [prefix, afterPrefix(prefix)]);
    for (const row of statement.iterate(...bounds)) yield factOf(row);
  }

  get(key: string): Fact | undefined {
    const row = this.#get.get(key);
    return row === undefined ? undefined : factOf(row);
  }

  /** Facts with a value. Without an order the table is read from its beginning to its end, which is faster. */
  *scan(prefix: string, { byKey }: { readonly byKey: boolean }): Iterable<Fact> {
    // The plus keeps SQLite from its index, by which each row would be looked up on its own.
    const [key, order] = byKey ? ["key", "ORDER BY key"] : ["+key", ""];
    const statement = this.#database.prepare(
      `SELECT key, value, revision FROM fact WHERE ${key} >= ? AND ${key} < ? AND value IS NOT NULL ${order}`,
    );
    for (const row of statement.iterate(prefix, afterPrefix(prefix))) yield factOf(row);
  }

  forgetRevisions(): void {
    this.#database.exec("UPDATE fact SET revision = 0");
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
  save(facts: readonly FactRow[], position: ReplicaPosition): void {
    this.#database.exec("BEGIN IMMEDIATE");
    try {
      const put = this.#database.prepare(
        "INSERT INTO fact (key, value, revision) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision",
      );
      for (const { key, text, revision } of facts) put.run(key, text, revision);
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

const factOf = (row: Record<string, SQLOutputValue>): Fact => ({
  key: String(row.key),
  value: row.value === null ? undefined : JSON.parse(String(row.value)),
  revision: Number(row.revision),
});

/** The first text that sorts after all that begin with the prefix. Keys are ASCII. */
const afterPrefix = (prefix: string): string => `${prefix}\u{10ffff}`;
