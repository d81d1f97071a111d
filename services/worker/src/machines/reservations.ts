/**
 * Room that is held for machines about to be committed. Each reservation has a fence: a number that this database
 * never gives twice. A commit presents it, so that an answer that was on its way for too long, or a command that
 * somebody sends again, cannot make a machine out of room that has been given away.
 *
 * The deadline is a moment on this host's clock, made from a duration: the caller's clock may be an hour off. If this
 * host's own clock is set back, what then would last longer than any reservation may counts as expired.
 */
import type { DatabaseSync } from "node:sqlite";
import { HearthError } from "@hearth/errors";
import { maxReservationMs } from "@hearth/machine";
import { crashPoint } from "../journal/crash-point.ts";

export interface Shape {
  readonly cpus: number;
  readonly memory_mb: number;
}

export interface Reservation extends Shape {
  readonly machineId: string;
}

/** An expired one is kept for so long, to tell a late commit what has happened. */
const rememberedMs = 30_000;

export class Reservations {
  readonly #database: DatabaseSync;
  readonly #nowMs: () => number;

  constructor(database: DatabaseSync, nowMs: () => number) {
    this.#database = database;
    this.#nowMs = nowMs;
  }

  /** Answers the fence. Call inside a transaction, after the room was found. */
  hold(machineId: string, { cpus, memory_mb }: Shape, ttlMs: number): number {
    crashPoint("reserve", "before");
    const fence = this.#nextFence();
    this.#database
      .prepare(
        "INSERT OR REPLACE INTO reservations (machine_id, cpus, memory_mb, expires_at_ms, fence) VALUES (?, ?, ?, ?, ?)",
      )
      .run(machineId, cpus, memory_mb, this.#nowMs() + ttlMs, fence);
    return fence;
  }

  /**
   * Turns the reservation into the machine that the caller makes in the same transaction.
   * @throws HearthError `reservation_expired`, `reservation_not_held`
   */
  use(machineId: string, fence: number | undefined): void {
    const row = this.#database
      .prepare("SELECT fence, expires_at_ms FROM reservations WHERE machine_id = ?")
      .get(machineId);
    const details = { machine_id: machineId, fence };
    if (row === undefined || row.fence !== fence) throw new HearthError("reservation_not_held", { details });
    if (!this.#isHeld(Number(row.expires_at_ms))) throw new HearthError("reservation_expired", { details });
    this.drop(machineId);
  }

  drop(machineId: string): void {
    this.#database.prepare("DELETE FROM reservations WHERE machine_id = ?").run(machineId);
  }

  held(): Reservation[] {
    this.#forget();
    return this.#database
      .prepare("SELECT machine_id, cpus, memory_mb, expires_at_ms FROM reservations")
      .all()
      .filter((row) => this.#isHeld(Number(row.expires_at_ms)))
      .map((row) => ({
        machineId: String(row.machine_id),
        cpus: Number(row.cpus),
        memory_mb: Number(row.memory_mb),
      }));
  }

  #isHeld(expiresAtMs: number): boolean {
    const leftMs = expiresAtMs - this.#nowMs();
    return leftMs > 0 && leftMs <= maxReservationMs;
  }

  #forget(): void {
    const nowMs = this.#nowMs();
    this.#database
      .prepare("DELETE FROM reservations WHERE expires_at_ms < ? OR expires_at_ms > ?")
      .run(nowMs - rememberedMs, nowMs + maxReservationMs);
  }

  #nextFence(): number {
    const row = this.#database
      .prepare(
        "INSERT INTO meta (key, value) VALUES ('fence', '1') ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1 RETURNING value",
      )
      .get();
    return Number(row?.value);
  }
}
