import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { test } from "node:test";
import { HearthError } from "@hearth/errors";
import { createLogger } from "@hearth/telemetry";
import { openJournal } from "../journal/journal.ts";
import { Ledger } from "../journal/ledger.ts";
import { SlotPool, slotKind, slotOwners } from "./slot-pool.ts";

const never = new AbortController().signal;
const limitMs = 5_000;

/** A host that is a set of names, and a pool of it that may be the second on the same ledger. */
function bench(size = 2, database = openJournal(":memory:"), host = new Set<string>()) {
  const ledger = new Ledger(database, () => 0);
  const told: string[] = [];
  let changed = Promise.withResolvers<void>();
  const tell = () => {
    changed.resolve();
    changed = Promise.withResolvers();
  };
  const network = {
    build: async (): Promise<void> => undefined,
    remove: async (): Promise<void> => undefined,
    buildSlot: async ({ slot }: { slot: string }) => {
      assert.equal(
        ledger.ofMachine(slotOwners.making).some(({ key }) => key === slot),
        true,
      );
      host.add(slot);
      await network.build();
      queueMicrotask(tell);
    },
    hasSlot: async (slot: string) => host.has(slot),
    removeSlot: async ({ slot }: { slot: string }) => {
      assert.ok(database.prepare("SELECT 1 FROM resources WHERE key = ?").get(slot), "still in the ledger");
      await network.remove();
      host.delete(slot);
      told.push(slot);
      queueMicrotask(tell);
    },
  };
  const pool = new SlotPool({
    ...{ nodeId: "n1", ledger, network, ownerUid: 0, size, randomBytes },
    // The pauses are over at once, but for the long one between two looks, which ends with the pool.
    clock: {
      nowMs: () => 0,
      sleep: async (ms, signal) => {
        if (ms >= 30_000 && signal !== undefined) await once(signal, "abort");
        tell();
      },
    },
    logger: createLogger("worker", {}, { destination: { write: () => undefined } }),
  });
  const owned = (owner: string) => ledger.ofMachine(owner).map(({ key }) => key);
  const until = async (wanted: () => boolean): Promise<void> => {
    const late = AbortSignal.timeout(limitMs);
    while (!wanted()) {
      late.throwIfAborted();
      await Promise.race([changed.promise, new Promise((resolve) => setImmediate(resolve))]);
    }
  };
  const ready = () => until(() => owned(slotOwners.pool).length === size && host.size >= size);
  return { pool, ledger, database, network, host, told, owned, ready, until };
}

test("slots are ready before anybody asks, and one that was claimed is made up for", async () => {
  const { pool, ready, owned, host } = bench(2);
  pool.start();
  await ready();
  const before = owned(slotOwners.pool);
  const slot = await pool.claim("m1", never);
  assert.ok(before.includes(slot));
  await ready();
  assert.deepEqual(owned("m1"), [slot]);
  assert.equal(host.size, 3);
  await pool.stop();
});

test("an empty pool makes a slot for the one that asks, and many that ask at once get one each", async () => {
  const { pool, owned } = bench(0);
  const asked = Array.from({ length: 8 }, (_, index) => pool.claim(`m${index}`, never));
  const slots = await Promise.all(asked);
  assert.equal(new Set(slots).size, 8);
  for (const [index, slot] of slots.entries()) assert.deepEqual(owned(`m${index}`), [slot]);
  await pool.stop();
});

test("what a worker had ready is its successor's, and what it had not finished is deleted", async () => {
  const first = bench(2);
  first.pool.start();
  await first.ready();
  await first.pool.stop();
  const kept = first.owned(slotOwners.pool);
  first.ledger.claim({ kind: slotKind, key: "half", machineId: slotOwners.making });
  first.host.add("half");
  const second = bench(2, first.database, first.host);
  second.pool.start();
  await second.until(() => second.told.length === 1);
  await second.ready();
  assert.deepEqual(second.told, ["half"]);
  assert.deepEqual(second.owned(slotOwners.pool), kept);
  await second.pool.stop();
  assert.deepEqual(second.owned(slotOwners.making), []);
});

test("a slot that is made while an unfinished one is deleted is its machine's, and is not deleted with that", async () => {
  const { pool, ledger, network, host, told, owned, until } = bench(0);
  ledger.claim({ kind: slotKind, key: "half", machineId: slotOwners.making });
  host.add("half");
  const [built, removed] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  network.build = () => built.promise;
  network.remove = () => removed.promise;
  const claiming = pool.claim("m1", never);
  pool.start();
  built.resolve();
  const slot = await claiming;
  removed.resolve();
  await until(() => told.includes("half"));
  await pool.stop();
  assert.deepEqual(told, ["half"]);
  assert.ok(host.has(slot));
  assert.deepEqual(owned("m1"), [slot]);
});

test("a slot that the host has lost is given to nobody", async () => {
  const { pool, ready, host, owned } = bench(1);
  pool.start();
  await ready();
  const [lost = ""] = owned(slotOwners.pool);
  host.delete(lost);
  const slot = await pool.claim("m1", never);
  assert.notEqual(slot, lost);
  assert.ok(host.has(slot));
  assert.deepEqual(owned("m1"), [slot]);
  await pool.stop();
});

test("a slot that could not be made leaves nothing, and the claim says why", async () => {
  const { pool, network, host, owned } = bench(0);
  network.build = async () => {
    throw new HearthError("host_requirement_missing");
  };
  await assert.rejects(pool.claim("m1", never), { code: "host_requirement_missing" });
  assert.equal(host.size, 0);
  assert.deepEqual([...owned(slotOwners.making), ...owned("m1")], []);
  await pool.stop();
});

test("the pool tries again after the host refused", async () => {
  const { pool, network, ready } = bench(1);
  let refusals = 3;
  network.build = async () => {
    if (refusals-- > 0) throw new HearthError("internal");
  };
  pool.start();
  await ready();
  await pool.stop();
});

test("a drain leaves nothing and makes nothing, until it is taken back", async () => {
  const { pool, ready, host, owned } = bench(2);
  pool.start();
  await ready();
  await pool.drain();
  assert.equal(host.size, 0);
  assert.deepEqual([...owned(slotOwners.pool), ...owned(slotOwners.making)], []);
  await assert.rejects(pool.claim("m1", never), { code: "unavailable" });
  pool.resume();
  await ready();
  await pool.stop();
});
