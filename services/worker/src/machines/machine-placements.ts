/** How each machine came to this node, as the API accounted for it: kept with the machine, to be told by `explain`. */
import type { DatabaseSync } from "node:sqlite";
import type { PlacementReport } from "@hearth/machine";

export function makePlacementTable(database: DatabaseSync): void {
  database.exec(`
    CREATE TABLE IF NOT EXISTS placements (
      machine_id  TEXT PRIMARY KEY REFERENCES machines (machine_id) ON DELETE CASCADE,
      report      TEXT NOT NULL
    ) STRICT;
  `);
}

export function keepPlacement(database: DatabaseSync, machineId: string, report: PlacementReport): void {
  database
    .prepare("INSERT OR REPLACE INTO placements (machine_id, report) VALUES (?, ?)")
    .run(machineId, JSON.stringify(report));
}

export function placementOf(database: DatabaseSync, machineId: string): PlacementReport | undefined {
  const row = database.prepare("SELECT report FROM placements WHERE machine_id = ?").get(machineId);
  return row === undefined ? undefined : (JSON.parse(String(row.report)) as PlacementReport);
}
