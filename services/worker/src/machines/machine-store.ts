/**
 * Machines on disk. Every change of a machine goes through `change`: the row with its next revision, the event
 * that tells of it and the fact for the others are one transaction, and the outbox is woken after it.
 */
import type { DatabaseSync } from "node:sqlite";
import type { Outbox } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import {
  factKeys,
  type InstanceId,
  type MachineConfig,
  type MachineEvent,
  type MachineEventType,
  type MachineExit,
  type MachineFact,
} from "@hearth/machine";
import { crashPoint } from "../journal/crash-point.ts";
import { commitIntent, transaction } from "../journal/journal.ts";
import { type MachineRow, machineColumns, rowOf, valuesOf } from "./machine-row.ts";

export interface MachineStoreDeps {
  readonly database: DatabaseSync;
  readonly nodeId: string;
  readonly outbox: Pick<Outbox, "add" | "signal">;
  readonly nowMs: () => number;
  readonly newEventId: () => string;
  /** After each committed change. */
  readonly onChange: (machineId: string) => void;
  readonly factOf: (row: MachineRow, events: readonly MachineEvent[]) => MachineFact;
}

export interface NewEvent {
  readonly type: MachineEventType;
  readonly source: MachineEvent["source"];
  /** The machine's state after the change when absent. */
  readonly status?: MachineEvent["status"];
  readonly request?: MachineEvent["request"];
}

export interface Change {
  readonly set: Partial<MachineRow>;
  readonly events?: readonly NewEvent[];
  /** Recorded with the boot that it ended. */
  readonly exit?: MachineExit;
}

export interface Version {
  readonly version: InstanceId;
  readonly user_config: MachineConfig;
  readonly created_at: string;
}

const publishedEvents = 20;
const keptEvents = 200;

export class MachineStore {
  readonly #deps: MachineStoreDeps;

  constructor(deps: MachineStoreDeps) {
    this.#deps = deps;
  }

  find(machineId: string): MachineRow | undefined {
    const row = this.#deps.database.prepare("SELECT * FROM machines WHERE machine_id = ?").get(machineId);
    return row === undefined ? undefined : rowOf(row);
  }

  /** @throws HearthError `machine_not_found` */
  get(machineId: string): MachineRow {
    const row = this.find(machineId);
    if (row === undefined) throw new HearthError("machine_not_found", { details: { machine_id: machineId } });
    return row;
  }

  all(): MachineRow[] {
    return this.#deps.database.prepare("SELECT * FROM machines ORDER BY created_ms, rowid").all().map(rowOf);
  }

  /** The ids of an app's machines, but for destroyed ones. */
  idsOfApp(app: string): string[] {
    return this.#deps.database
      .prepare("SELECT machine_id FROM machines WHERE app = ? AND state <> 'destroyed'")
      .all(app)
      .map((row) => String(row.machine_id));
  }

  /** The first machines behind `after`, by id. */
  page(
    after: string,
    limit: number,
    { app, includeDestroyed }: { readonly app: string | undefined; readonly includeDestroyed: boolean },
  ): MachineRow[] {
    return this.#deps.database
      .prepare(
        `SELECT * FROM machines WHERE machine_id > ?1 AND (?2 IS NULL OR app = ?2) AND (?3 OR state <> 'destroyed')
         ORDER BY machine_id LIMIT ?4`,
      )
      .all(after, app ?? null, includeDestroyed ? 1 : 0, limit)
      .map(rowOf);
  }

  /** Call inside a transaction of the caller, with `published` after its commit. */
  insert(row: MachineRow, events: readonly NewEvent[]): void {
    crashPoint("insert machine", "before");
    const marks = machineColumns.map(() => "?").join(", ");
    this.#deps.database
      .prepare(`INSERT INTO machines (${machineColumns.join(", ")}) VALUES (${marks})`)
      .run(...valuesOf(row));
    this.#addVersion(row);
    this.#tell(row, events);
  }

  /** Tells of what `insert` or `change` committed. */
  published(machineId: string): void {
    crashPoint("publish change", "before");
    this.#deps.outbox.signal();
    this.#deps.onChange(machineId);
  }

  /**
   * Decides from the row as it is and commits what `decide` answers; what it throws changes nothing. Undefined
   * changes nothing either.
   */
  change(machineId: string, decide: (row: MachineRow) => Change | undefined): MachineRow {
    const { database, nowMs } = this.#deps;
    let published = false;
    const changed = commitIntent(database, () => {
      const row = this.get(machineId);
      const change = decide(row);
      if (change === undefined) return row;
      published = true;
      const next = { ...row, ...change.set, revision: row.revision + 1, updatedMs: nowMs() };
      crashPoint(`change ${row.state} to ${next.state}`, "before");
      this.#write(next);
      if (next.instanceId !== row.instanceId) this.#addVersion(next);
      if (change.exit !== undefined) this.#addExit(row, change.exit);
      this.#tell(next, change.events ?? []);
      return next;
    });
    if (published) this.published(machineId);
    return changed;
  }

  /**
   * What is between this worker and one caller: on the disk as surely as a change, and with no revision, event or
   * fact, as there is nothing in it for others.
   */
  keep(machineId: string, decide: (row: MachineRow) => Partial<MachineRow>): MachineRow {
    return commitIntent(this.#deps.database, () => {
      const row = this.get(machineId);
      const next = { ...row, ...decide(row) };
      this.#write(next);
      return next;
    });
  }

  /** What only this worker cares for: no revision, no fact. Returns the row, undefined when it is gone. */
  note(machineId: string, set: Partial<MachineRow>): MachineRow | undefined {
    const what = `note ${Object.keys(set).join(" ")}`;
    crashPoint(what, "before");
    const noted = transaction(this.#deps.database, () => {
      const row = this.find(machineId);
      if (row === undefined) return undefined;
      const next = { ...row, ...set };
      this.#write(next);
      return next;
    });
    crashPoint(what, "after");
    return noted;
  }

  /** Takes back the fact; the row stays. */
  unpublish(machineId: string): void {
    const { database, nodeId, outbox } = this.#deps;
    transaction(database, () => outbox.add(factKeys.machine(nodeId, machineId), undefined));
    outbox.signal();
  }

  /** Tells again what is so, to a cluster that may have forgotten. */
  republish(): void {
    transaction(this.#deps.database, () => {
      for (const row of this.all()) if (row.state !== "destroyed") this.#publish(row);
    });
    this.#deps.outbox.signal();
  }

  remove(machineId: string): void {
    crashPoint("remove row", "before");
    transaction(this.#deps.database, () => this.drop(machineId));
  }

  /** Call inside a transaction of the caller. */
  drop(machineId: string): void {
    const { database } = this.#deps;
    database.prepare("DELETE FROM runs WHERE machine_id = ?").run(machineId);
    database.prepare("DELETE FROM machines WHERE machine_id = ?").run(machineId);
  }

  /** Newest first. */
  events(machineId: string, limit: number): MachineEvent[] {
    return this.#deps.database
      .prepare("SELECT event FROM events WHERE machine_id = ? ORDER BY number DESC LIMIT ?")
      .all(machineId, limit)
      .map((row) => JSON.parse(String(row.event)) as MachineEvent);
  }

  /** Newest first. */
  versions(machineId: string): Version[] {
    return this.#deps.database
      .prepare("SELECT * FROM versions WHERE machine_id = ? ORDER BY created_ms DESC, rowid DESC")
      .all(machineId)
      .map((row) => ({
        version: String(row.instance_id) as InstanceId,
        user_config: JSON.parse(String(row.config)) as MachineConfig,
        created_at: new Date(Number(row.created_ms)).toISOString(),
      }));
  }

  /** How the program of a boot ended; undefined while it has not. */
  exitOf(machineId: string, boot: string): MachineExit | undefined {
    const row = this.#deps.database
      .prepare("SELECT exit FROM exits WHERE machine_id = ? AND boot = ?")
      .get(machineId, boot);
    return row === undefined ? undefined : (JSON.parse(String(row.exit)) as MachineExit);
  }

  meta(key: string): string | undefined {
    const row = this.#deps.database.prepare("SELECT value FROM meta WHERE key = ?").get(key);
    return row === undefined ? undefined : String(row.value);
  }

  setMeta(key: string, value: string): void {
    this.#deps.database.prepare("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)").run(key, value);
  }

  #write(row: MachineRow): void {
    const set = machineColumns.map((name) => `${name} = ?`).join(", ");
    this.#deps.database
      .prepare(`UPDATE machines SET ${set} WHERE machine_id = ?`)
      .run(...valuesOf(row), row.machineId);
  }

  #addVersion({ machineId, instanceId, config }: MachineRow): void {
    this.#deps.database
      .prepare("INSERT INTO versions VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
      .run(machineId, instanceId, JSON.stringify(config), this.#deps.nowMs());
  }

  #addExit({ machineId, instanceId, boot }: MachineRow, exit: MachineExit): void {
    if (boot === null) return;
    this.#deps.database
      .prepare("INSERT INTO exits VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
      .run(machineId, instanceId, boot, JSON.stringify(exit));
  }

  #tell(row: MachineRow, events: readonly NewEvent[]): void {
    const { database, nowMs, newEventId } = this.#deps;
    const insert = database.prepare("INSERT INTO events (machine_id, event) VALUES (?, ?)");
    for (const event of events) {
      const { type, source, status = row.state, request } = event;
      const whole: MachineEvent = {
        id: newEventId(),
        type,
        status,
        source,
        timestamp: nowMs(),
        ...(request && { request }),
      };
      insert.run(row.machineId, JSON.stringify(whole));
    }
    if (events.length > 0)
      database
        .prepare(
          `DELETE FROM events WHERE machine_id = ?1 AND number <= (
             SELECT number FROM events WHERE machine_id = ?1 ORDER BY number DESC LIMIT 1 OFFSET ${keptEvents})`,
        )
        .run(row.machineId);
    this.#publish(row);
  }

  #publish(row: MachineRow): void {
    const { outbox, factOf, nodeId } = this.#deps;
    // Of a machine that another node has, this one has nothing to say once it is rid of it.
    const left = row.placement?.role === "gone" && row.state === "destroyed";
    const fact = left ? undefined : factOf(row, this.events(row.machineId, publishedEvents));
    outbox.add(factKeys.machine(nodeId, row.machineId), fact);
  }
}
