/**
 * Opens the database of a worker: journal, ledger, machines. One that is damaged is refused before anything is
 * written into it, and never made anew: an empty one would take every running machine for an orphan.
 */
import { existsSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { makeMachineTables } from "../machines/machine-tables.ts";
import { databaseCorrupt, databaseError } from "./database-fault.ts";
import { openJournal } from "./journal.ts";

/** @throws HearthError `database_corrupt`, `database_unwritable` */
export function openWorkerDatabase(path: string): DatabaseSync {
  if (path !== ":memory:" && existsSync(path)) checkDatabase(path);
  try {
    const database = openJournal(path);
    makeMachineTables(database);
    return database;
  } catch (error) {
    throw databaseError(path, error);
  }
}

/** Reads every page. `quick_check` leaves out only whether indexes agree with their tables. */
function checkDatabase(path: string): void {
  const database = new DatabaseSync(path, { timeout: 5000 });
  let found: string;
  try {
    found = String(database.prepare("PRAGMA quick_check(1)").get()?.quick_check);
  } catch (error) {
    throw databaseError(path, error);
  } finally {
    database.close();
  }
  if (found !== "ok") throw databaseCorrupt(path, found.split("\n")[0] ?? found);
}
