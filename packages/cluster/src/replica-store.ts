/**
 * The replica's copy on disk: what a node knows of the cluster when it starts with the bus down.
 *
 * A copy is not the truth, so one that is damaged, or that another version wrote, is set aside under another name and
 * made anew from the stream; it is kept for a person to look at, because the stream may have lost what it holds.
 */
import { existsSync, renameSync } from "node:fs";
import { DatabaseSync, type SQLOutputValue, type StatementSync } from "node:sqlite";
import type { FactVersion } from "./fact-version.ts";

/** One key as the cluster last had it. A deleted key keeps its revision, and `value` is undefined. */
export interface Fact {
  readonly key: string;
  readonly value: unknown;
  /** In the stream that is there now; 0 when that one does not have it (yet). */
  readonly revision: number;
}

export interface ReplicaFact extends Fact {
  /** Where and when it was first written. */
  readonly origin: FactVersion;
}

/** A fact as it is written: the text that came is the text that is kept. `null` is a deletion. */
export type FactRow = Omit<ReplicaFact, "value"> & { readonly text: string | null };

export interface ReplicaPosition {
  /** Which stream the revisions belong to; a stream that was made anew counts from 1 again. */
  readonly stream: string;
  /** Every change up to this revision is here. */
  readonly revision: number;
  /** Wall clock, milliseconds: when this copy was last known to be the newest. */
  readonly checkedAtMs: number;
}

export interface Restoration {
  readonly atMs: number;
  readonly restored: number;
}

export interface SetAside {
  readonly path: string;
  readonly reason: string;
}

const schemaVersion = 2;
const tables = `
  CREATE TABLE IF NOT EXISTS fact (
    key TEXT PRIMARY KEY, value TEXT, revision INTEGER NOT NULL,
    clock INTEGER NOT NULL, stream TEXT NOT NULL, origin INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX IF NOT EXISTS fact_revision ON fact (revision);
  CREATE INDEX IF NOT EXISTS fact_clock ON fact (clock);
  CREATE TABLE IF NOT EXISTS position (
    id INTEGER PRIMARY KEY CHECK (id = 1), stream TEXT NOT NULL, revision INTEGER NOT NULL, checked_at INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS restoration (
    id INTEGER PRIMARY KEY CHECK (id = 1), at INTEGER NOT NULL, restored INTEGER NOT NULL
  ) STRICT;
  PRAGMA user_version = ${schemaVersion};`;
const upgradeFrom1 = `
  ALTER TABLE fact ADD COLUMN clock INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE fact ADD COLUMN stream TEXT NOT NULL DEFAULT '';
  ALTER TABLE fact ADD COLUMN origin INTEGER NOT NULL DEFAULT 0;
  UPDATE fact SET origin = revision, stream = coalesce((SELECT stream FROM position), '');`;

export class ReplicaStore {
  readonly #database: DatabaseSync;
  readonly #facts: readonly ReplicaFact[];
  readonly #get: StatementSync;
  /** Where a copy that could not be read is now. */
  readonly setAside: SetAside | undefined;

  /**
   * Throws what SQLite throws when no file can be made here.
   * @param unread prefixes of facts that are not among those of `facts`
   */
  constructor(path: string, unread: readonly string[] = []) {
    try {
      [this.#database, this.#facts] = open(path, unread);
    } catch (error) {
      if (!existsSync(path) || !isUnreadable(error)) throw error;
      const aside = `${path}.unreadable-${Date.now()}`;
      for (const end of ["-wal", "-shm", ""]) if (existsSync(path + end)) renameSync(path + end, aside + end);
      this.setAside = { path: aside, reason: error instanceof Error ? error.message : String(error) };
      [this.#database, this.#facts] = open(path, unread);
    }
    this.#get = this.#database.prepare("SELECT * FROM fact WHERE key = ?");
  }

  /** As they were when the file was opened. */
  facts(): readonly ReplicaFact[] {
    return this.#facts;
  }

  get(key: string): ReplicaFact | undefined {
    const row = this.#get.get(key);
    return row === undefined ? undefined : factOf(row);
  }

  /** Facts with a value. Without an order the table is read from its beginning to its end, which is faster. */
  *scan(prefix: string, { byKey }: { readonly byKey: boolean }): Iterable<ReplicaFact> {
    // The plus keeps SQLite from its index, by which each row would be looked up on its own.
    const [key, order] = byKey ? ["key", "ORDER BY key"] : ["+key", ""];
    yield* this.#select(`${key} >= ? AND ${key} < ? AND value IS NOT NULL ${order}`, prefix, after(prefix));
  }

  /** Facts and deletions of the stream that there is, the newest first. */
  newest(from: number, count: number): ReplicaFact[] {
    return [...this.#select("revision > 0 ORDER BY revision DESC LIMIT ? OFFSET ?", count, from)];
  }

  /** What the stream does not have. */
  lost(): Iterable<ReplicaFact> {
    return this.#select("revision = 0");
  }

  olderThan(revision: number, prefix: string): ReplicaFact[] {
    return [...this.#select("key >= ? AND key < ? AND revision < ?", prefix, after(prefix), revision)];
  }

  /** The latest of all the clocks that facts were written by. */
  get clock(): number {
    return Number(this.#database.prepare("SELECT max(clock) AS clock FROM fact").get()?.clock ?? 0);
  }

  /** One transaction: the stream has nothing after this revision, and the position is another one. */
  lose(cut: number, position: ReplicaPosition): void {
    this.#transact(position, () => {
      this.#database.prepare("UPDATE fact SET revision = 0 WHERE revision > ?").run(cut);
    });
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
  save(facts: readonly FactRow[], position: ReplicaPosition, forgotten: readonly string[] = []): void {
    this.#transact(position, () => {
      const put = this.#database.prepare("INSERT OR REPLACE INTO fact VALUES (?, ?, ?, ?, ?, ?)");
      for (const { key, text, revision, origin } of facts)
        put.run(key, text, revision, origin.clock, origin.stream, origin.revision);
      const remove = this.#database.prepare("DELETE FROM fact WHERE key = ?");
      for (const key of forgotten) remove.run(key);
    });
  }

  #transact(position: ReplicaPosition, work: () => void): void {
    this.#database.exec("BEGIN IMMEDIATE");
    try {
      work();
      this.#database
        .prepare("INSERT OR REPLACE INTO position (id, stream, revision, checked_at) VALUES (1, ?, ?, ?)")
        .run(position.stream, position.revision, Math.round(position.checkedAtMs));
      this.#database.exec("COMMIT");
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      throw error;
    }
  }

  *#select(where: string, ...values: (string | number)[]): Iterable<ReplicaFact> {
    const rows = this.#database.prepare(`SELECT * FROM fact WHERE ${where}`).iterate(...values);
    for (const row of rows) yield factOf(row);
  }

  restoration(): Restoration | undefined {
    const row = this.#database.prepare("SELECT at, restored FROM restoration").get();
    return row === undefined ? undefined : { atMs: Number(row.at), restored: Number(row.restored) };
  }

  noteRestoration({ atMs, restored }: Restoration): void {
    this.#database.prepare("INSERT OR REPLACE INTO restoration VALUES (1, ?, ?)").run(atMs, restored);
  }

  close(): void {
    this.#database.close();
  }
}

class UnknownSchema extends Error {}

function open(path: string, unread: readonly string[]): [DatabaseSync, ReplicaFact[]] {
  const database = new DatabaseSync(path);
  try {
    // An acknowledged regional write counts on this copy, so a commit has to be on the disk.
    database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");
    const found = Number(database.prepare("PRAGMA user_version").get()?.user_version);
    const isUsed = database.prepare("SELECT 1 FROM sqlite_schema").get() !== undefined;
    if (found !== schemaVersion && (found !== 0 || (isUsed && !isVersion1(database))))
      throw new UnknownSchema(`It has the schema ${found}, and this version knows ${schemaVersion}.`);
    if (isUsed && database.prepare("PRAGMA quick_check(1)").get()?.quick_check !== "ok")
      throw new UnknownSchema("SQLite finds it damaged.");
    database.exec(`BEGIN; ${isUsed && found === 0 ? upgradeFrom1 : ""} ${tables} COMMIT;`);
    return [database, readFacts(database, unread)];
  } catch (error) {
    database.close();
    throw error;
  }
}

const isVersion1 = (database: DatabaseSync): boolean =>
  database.prepare("SELECT group_concat(name) AS names FROM pragma_table_info('fact')").get()?.names ===
  "key,value,revision";

function readFacts(database: DatabaseSync, unread: readonly string[]): ReplicaFact[] {
  const read = unread.map(() => "NOT (key >= ? AND key < ?)").join(" AND ") || "1";
  const bounds = unread.flatMap((prefix) => [prefix, after(prefix)]);
  // Most facts come from one stream, and its name is kept once.
  const streams = new Map<string, string>();
  return database
    .prepare(`SELECT * FROM fact WHERE ${read}`)
    .all(...bounds)
    .map((row) => {
      const fact = factOf(row);
      const stream = streams.get(fact.origin.stream) ?? fact.origin.stream;
      streams.set(stream, stream);
      return { ...fact, origin: { ...fact.origin, stream } };
    });
}

const factOf = (row: Record<string, SQLOutputValue>): ReplicaFact => ({
  key: String(row.key),
  value: row.value === null ? undefined : JSON.parse(String(row.value)),
  revision: Number(row.revision),
  origin: { stream: String(row.stream), revision: Number(row.origin), clock: Number(row.clock) },
});

/** The first text that sorts after all that begin with the prefix. Keys are ASCII. */
const after = (prefix: string): string => `${prefix}\u{10ffff}`;

/** SQLITE_CORRUPT, SQLITE_NOTADB, a value that is no JSON, or tables of another version. */
function isUnreadable(error: unknown): boolean {
  const { errcode } = error as { errcode?: number };
  if (error instanceof UnknownSchema || error instanceof SyntaxError) return true;
  return errcode !== undefined && [1, 11, 26].includes(errcode & 0xff);
}
