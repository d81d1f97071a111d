import { DatabaseSync } from "node:sqlite";

/**
 * Opens the worker's database: the journal of runs and the ledger of host resources. A commit survives the
 * end of this process at once. It survives a power cut when it is made by `commitIntent`: what a power cut
 * takes of the journal were steps on a host that is gone with it, but an intent must never be taken back.
 *
 * @param path a file, or `:memory:`
 */
export function openJournal(path: string): DatabaseSync {
  const database = new DatabaseSync(path, { enableForeignKeyConstraints: true, timeout: 5000 });
  database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;");
  database.exec(`
    CREATE TABLE IF NOT EXISTS runs (
      run_id      TEXT PRIMARY KEY,
      machine_id  TEXT NOT NULL,
      kind        TEXT NOT NULL,
      input       TEXT NOT NULL,
      state       TEXT NOT NULL CHECK (state IN ('running', 'undoing', 'done', 'failed')),
      error_code  TEXT,
      reason      TEXT,
      created_ms  INTEGER NOT NULL
    ) STRICT;
    -- one unfinished run a machine: two writers of one machine are a bug, and the database says so
    CREATE UNIQUE INDEX IF NOT EXISTS one_open_run ON runs (machine_id) WHERE state IN ('running', 'undoing');
    CREATE TABLE IF NOT EXISTS steps (
      run_id    TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE,
      name      TEXT NOT NULL,
      state     TEXT NOT NULL CHECK (state IN ('begun', 'done', 'undone')),
      attempts  INTEGER NOT NULL,
      begun_ms  INTEGER NOT NULL,
      ended_ms  INTEGER,
      reason    TEXT,
      PRIMARY KEY (run_id, name)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS resources (
      kind        TEXT NOT NULL,
      key         TEXT NOT NULL,
      machine_id  TEXT NOT NULL,
      created_ms  INTEGER NOT NULL,
      PRIMARY KEY (kind, key)
    ) STRICT;
    CREATE INDEX IF NOT EXISTS resources_of_machine ON resources (machine_id);
  `);
  addColumn(database, "runs", "ended_ms", "INTEGER");
  addColumn(database, "runs", "console_tail", "TEXT");
  return database;
}

/**
 * Gives a table of an earlier version a column that it lacks. The table itself is asked, and no number of a version:
 * columns come from several parts of the worker, in whatever order, and each addition is safe to repeat.
 *
 * @param declaration what stands after the name; rows that are there need it to be nullable or to have a default
 */
export function addColumn(database: DatabaseSync, table: string, column: string, declaration: string): void {
  const columns = database.prepare(`PRAGMA table_info(${table})`).all();
  if (columns.some(({ name }) => name === column)) return;
  database.exec(`ALTER TABLE ${table} ADD COLUMN ${column} ${declaration}`);
}

/** One transaction that is on the disk, by fsync, when this returns; with the rows committed before it. */
export function commitIntent<T>(database: DatabaseSync, work: () => T): T {
  database.exec("PRAGMA synchronous = FULL");
  try {
    return transaction(database, work);
  } finally {
    database.exec("PRAGMA synchronous = NORMAL");
  }
}

export function transaction<T>(database: DatabaseSync, work: () => T): T {
  database.exec("BEGIN IMMEDIATE");
  try {
    const result = work();
    database.exec("COMMIT");
    return result;
  } catch (error) {
    // What SQLite cannot write, such as to a full disk, it may have rolled back by itself.
    if (database.isTransaction) database.exec("ROLLBACK");
    throw error;
  }
}
