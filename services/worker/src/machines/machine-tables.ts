import type { DatabaseSync } from "node:sqlite";
import { addColumn } from "../journal/journal.ts";
import { makePlacementTable } from "./machine-placements.ts";

/** Makes the tables of machines beside those of the journal, when there are none. */
export function makeMachineTables(database: DatabaseSync): void {
  database.exec(`
    CREATE TABLE IF NOT EXISTS machines (
      machine_id     TEXT PRIMARY KEY,
      instance_id    TEXT NOT NULL,
      app            TEXT NOT NULL,
      name           TEXT NOT NULL,
      region         TEXT NOT NULL,
      network        INTEGER NOT NULL,
      machine_number INTEGER NOT NULL,
      egress_slot    INTEGER NOT NULL,
      config         TEXT NOT NULL,
      desired        TEXT NOT NULL CHECK (desired IN ('started', 'stopped', 'destroyed')),
      state          TEXT NOT NULL,
      revision       INTEGER NOT NULL,
      image          TEXT,
      handle         TEXT,
      boot           TEXT,
      stop           TEXT,
      exit           TEXT,
      restarts       TEXT NOT NULL DEFAULT '[]',
      start_at_ms    INTEGER NOT NULL DEFAULT 0,
      launch         INTEGER NOT NULL,
      lease          TEXT,
      created_ms     INTEGER NOT NULL,
      updated_ms     INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS versions (
      machine_id  TEXT NOT NULL REFERENCES machines (machine_id) ON DELETE CASCADE,
      instance_id TEXT NOT NULL,
      config      TEXT NOT NULL,
      created_ms  INTEGER NOT NULL,
      PRIMARY KEY (machine_id, instance_id)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS events (
      number      INTEGER PRIMARY KEY AUTOINCREMENT,
      machine_id  TEXT NOT NULL REFERENCES machines (machine_id) ON DELETE CASCADE,
      event       TEXT NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS events_of_machine ON events (machine_id, number);
    CREATE TABLE IF NOT EXISTS exits (
      machine_id  TEXT NOT NULL REFERENCES machines (machine_id) ON DELETE CASCADE,
      instance_id TEXT NOT NULL,
      boot        TEXT NOT NULL,
      exit        TEXT NOT NULL,
      PRIMARY KEY (machine_id, boot)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS reservations (
      machine_id    TEXT PRIMARY KEY,
      cpus          INTEGER NOT NULL,
      memory_mb     INTEGER NOT NULL,
      expires_at_ms INTEGER NOT NULL
    ) STRICT;
    -- the newest placement term of each machine that was ever moved to or from here, also when its row is gone
    CREATE TABLE IF NOT EXISTS placement_terms (machine_id TEXT PRIMARY KEY, term INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
  `);
  makePlacementTable(database);
  // What an earlier version held has a fence that no commit presents, and runs out by itself.
  addColumn(database, "reservations", "fence", "INTEGER NOT NULL DEFAULT 0");
  addColumn(database, "machines", "cordoned", "INTEGER NOT NULL DEFAULT 0");
  addColumn(database, "machines", "rollback", "TEXT");
  addColumn(database, "machines", "started_ms", "INTEGER");
  addColumn(database, "machines", "checks", "TEXT");
  // An earlier version had taps beside the host's other interfaces; one that is left goes as a slot does.
  database.exec("UPDATE resources SET kind = 'slot' WHERE kind = 'tap'");
  addColumn(database, "machines", "turn", "TEXT");
  addColumn(database, "machines", "placement", "TEXT");
  addColumn(database, "machines", "app_egress", "TEXT");
  addColumn(database, "machines", "slot_egress", "TEXT");
}
