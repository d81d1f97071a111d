import assert from "node:assert/strict";
import { test } from "node:test";
import { addColumn, openJournal } from "../journal/journal.ts";
import { machineColumns } from "./machine-row.ts";
import { makeMachineTables } from "./machine-tables.ts";

test("the tables of an earlier version get the columns that are new, once, and keep their rows", () => {
  using database = openJournal(":memory:");
  makeMachineTables(database);
  const added = ["started_ms", "checks", "turn"];
  for (const column of added) database.exec(`ALTER TABLE machines DROP COLUMN ${column}`);
  const columns = () =>
    database
      .prepare("PRAGMA table_info(machines)")
      .all()
      .map(({ name }) => String(name));
  const kept = columns();
  const values = kept.map((name) => (name === "desired" ? "'stopped'" : "1")).join(", ");
  database.exec(`INSERT INTO machines (${kept.join(", ")}) VALUES (${values})`);
  for (const _ of [1, 2]) {
    makeMachineTables(database);
    assert.deepEqual(columns().sort(), [...machineColumns].sort());
  }
  const row = database.prepare("SELECT * FROM machines").get();
  assert.equal(row?.started_ms, null);
  assert.equal(row?.machine_id, "1");
});

test("a column can be added with a value for the rows there are", () => {
  using database = openJournal(":memory:");
  database.exec("CREATE TABLE things (id INTEGER) STRICT; INSERT INTO things VALUES (1)");
  addColumn(database, "things", "flag", "INTEGER NOT NULL DEFAULT 7");
  addColumn(database, "things", "flag", "INTEGER NOT NULL DEFAULT 8");
  assert.deepEqual({ ...database.prepare("SELECT * FROM things").get() }, { id: 1, flag: 7 });
});
