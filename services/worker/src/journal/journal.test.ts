import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { makeMachineTables } from "../machines/machine-tables.ts";
import { openWorkerDatabase } from "./database-open.ts";
import { addColumn, openJournal } from "./journal.ts";

const columnsOf = (database: DatabaseSync, table: string): string[] =>
  database
    .prepare(`PRAGMA table_info(${table})`)
    .all()
    .map(({ name }) => String(name));

test("a column is added once, with its default in the rows that are there", () => {
  const database = new DatabaseSync(":memory:");
  database.exec("CREATE TABLE things (id INTEGER PRIMARY KEY) STRICT; INSERT INTO things VALUES (1)");
  for (let time = 0; time < 2; time += 1)
    addColumn(database, "things", "cordoned", "INTEGER NOT NULL DEFAULT 0");
  addColumn(database, "things", "note", "TEXT");
  assert.deepEqual(columnsOf(database, "things"), ["id", "cordoned", "note"]);
  assert.deepEqual({ ...database.prepare("SELECT * FROM things").get() }, { id: 1, cordoned: 0, note: null });
});

test("the database of a worker before these columns is opened with its rows", () => {
  const dir = mkdtempSync(join(tmpdir(), "hearth-journal-"));
  try {
    const path = join(dir, "worker.db");
    const added = { machines: ["cordoned"], runs: ["ended_ms", "console_tail"] } as const;
    const before = openJournal(path);
    makeMachineTables(before);
    for (const [table, names] of Object.entries(added))
      for (const name of names) before.exec(`ALTER TABLE ${table} DROP COLUMN ${name}`);
    before.exec("INSERT INTO runs VALUES ('r1', 'm1', 'machine-start', '{}', 'done', NULL, NULL, 7)");
    before.close();

    const opened = openWorkerDatabase(path);
    for (const [table, names] of Object.entries(added))
      for (const name of names) assert.ok(columnsOf(opened, table).includes(name), name);
    const run = opened.prepare("SELECT run_id, created_ms, ended_ms FROM runs").get();
    assert.deepEqual({ ...run }, { run_id: "r1", created_ms: 7, ended_ms: null });
    opened.close();
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
