/**
 * Publishes facts after the transaction that made them true.
 *
 * The owner adds a row in the same transaction as its state (`Outbox.add`), and the outbox sends rows in
 * order, one at a time, deleting each when JetStream has it. One at a time, because two values of a key
 * sent together could be stored in the wrong order when the first has to be sent again. A crash between
 * acknowledgement and deletion sends a row twice: the message id makes that one message within the
 * server's window, and the same value again after it. The next attempt is the retry; there is no other path.
 */
import type { DatabaseSync } from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import type { FactStore } from "./facts.ts";
import { assertKey, assertToken } from "./subjects.ts";

export interface OutboxOptions {
  readonly database: DatabaseSync;
  readonly facts: Pick<FactStore, "publish" | "delete">;
  /** Unique to this database for ever: part of the message ids. */
  readonly ownerId: string;
  readonly retryMs?: number;
  readonly onError?: (error: unknown) => void;
}

interface Row {
  readonly id: number;
  readonly key: string;
  readonly value: string | null;
}

export class Outbox {
  readonly #options: OutboxOptions;
  readonly #stopping = new AbortController();
  #wake: () => void = () => undefined;
  #loop: Promise<void> | undefined;

  constructor(options: OutboxOptions) {
    assertToken(options.ownerId);
    this.#options = options;
  }

  /** Makes the table when there is none. AUTOINCREMENT: a reused id would be taken for a duplicate. */
  start(): void {
    this.#options.database.exec(
      "CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, value TEXT) STRICT",
    );
    this.#loop = this.#run();
  }

  /** Call inside the owner's transaction, then `signal()` after its commit. `undefined` deletes the key. */
  add(key: string, value: unknown): void {
    const text = value === undefined ? null : JSON.stringify(value);
    this.#options.database.prepare("INSERT INTO outbox (key, value) VALUES (?, ?)").run(assertKey(key), text);
  }

  /** There may be new rows. */
  signal(): void {
    this.#wake();
  }

  /** Rows that are not acknowledged yet. */
  get pending(): number {
    const row = this.#options.database.prepare("SELECT count(*) AS n FROM outbox").get();
    return Number(row?.n ?? 0);
  }

  /** A mark behind the newest row, for `isSent`. */
  get mark(): number {
    const row = this.#options.database.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").get();
    return Number(row?.seq ?? 0);
  }

  /** Whether every row up to the mark has been acknowledged. */
  isSent(mark: number): boolean {
    const row = this.#options.database.prepare("SELECT min(id) AS id FROM outbox").get();
    return row?.id == null || Number(row.id) > mark;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake();
    await this.#loop;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      // Made before looking, so that a signal between the look and the wait is not lost.
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      try {
        if (await this.#sendNext()) continue;
        await woken;
      } catch (error) {
        this.#options.onError?.(error);
        await delay(this.#options.retryMs ?? 500, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  async #sendNext(): Promise<boolean> {
    const { database, facts, ownerId } = this.#options;
    if (database.isTransaction) {
      // The owner is inside a transaction that may yet roll back: its rows are not facts.
      await new Promise((resolve) => setImmediate(resolve));
      return true;
    }
    const row = database.prepare("SELECT id, key, value FROM outbox ORDER BY id LIMIT 1").get() as
      | Row
      | undefined;
    if (row === undefined) return false;
    const options = { messageId: `${ownerId}-${row.id}` };
    if (row.value === null) await facts.delete(row.key, options);
    else await facts.publish(row.key, JSON.parse(row.value), options);
    database.prepare("DELETE FROM outbox WHERE id = ?").run(row.id);
    return true;
  }
}
