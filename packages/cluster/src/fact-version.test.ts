import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type FactVersion, isPutBackOver, type StoredVersion } from "./fact-version.ts";
import { WriteClock } from "./write-clock.ts";

/** Small models of a stream and of replicas; the rule and the clock are the real ones. */
interface Value extends FactVersion {
  readonly value: number | undefined;
}
interface Message extends Value, StoredVersion {}
interface Process {
  readonly clock: WriteClock;
  /** By key. */
  facts: Map<string, Value & { readonly isPending: boolean }>;
  position: number;
}

class Region {
  stream = new Date(0).toISOString();
  last = 0;
  readonly messages = new Map<string, Message>();
  readonly processes: Process[];
  readonly acknowledged = new Map<string, number | undefined>();
  now = 1_000;
  #written = 0;

  constructor(skews: readonly number[]) {
    this.processes = skews.map((skew) => ({
      clock: new WriteClock(() => this.now + skew),
      facts: new Map(),
      position: 0,
    }));
  }

  put(key: string, value: Value, isPutBack: boolean): void {
    this.last += 1;
    const version = isPutBack ? value : { ...value, revision: this.last };
    this.messages.set(key, { ...version, sequence: this.last, isPutBack });
  }

  putBack(process: Process, only?: string): void {
    for (const [key, fact] of process.facts)
      if (fact.isPending && (only === undefined || key === only))
        if (isPutBackOver(fact, this.messages.get(key))) this.put(key, fact, true);
  }

  /** A feed takes up what is in the stream; only after everything is put back. */
  feed(process: Process): void {
    this.putBack(process);
    for (const [key, message] of this.messages) {
      process.clock.see(message.clock);
      const { stream, revision, clock, value } = message;
      process.facts.set(key, { stream, revision, clock, value, isPending: false });
    }
    process.position = this.last;
  }

  /** Acknowledged: in the stream, and on the disk of the process that wrote it. */
  write(process: Process, key: string, isDelete: boolean): void {
    this.feed(process);
    this.now += 1;
    this.#written += 1;
    const value = isDelete ? undefined : this.#written;
    this.put(key, { stream: this.stream, revision: 0, clock: process.clock.next(), value }, false);
    this.acknowledged.set(key, value);
    this.feed(process);
  }

  /** The stream keeps its messages up to a sequence, or is another one. Facts of what is gone wait for their turn. */
  lose(cut: number | undefined): void {
    const isReplaced = cut === undefined;
    const kept = cut ?? 0;
    const sequences = new Map([...this.messages].map(([key, { sequence }]) => [key, sequence]));
    for (const process of this.processes)
      for (const [key, fact] of process.facts)
        if (isReplaced || (sequences.get(key) ?? 0) > kept)
          process.facts.set(key, { ...fact, isPending: true });
    for (const [key, { sequence }] of this.messages)
      if (isReplaced || sequence > kept) this.messages.delete(key);
    if (isReplaced) this.stream = new Date(Date.parse(this.stream) + 1).toISOString();
    this.last = Math.min(this.last, kept);
  }
}

const keys = ["a", "b", "c"];
const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("write" as const),
      by: fc.nat(),
      key: fc.nat(2),
      isDelete: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("feed" as const), by: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("lose" as const), part: fc.option(fc.nat(100)) }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("put back" as const), by: fc.nat(), key: fc.nat(2) }),
  },
);

test("whoever puts back what, and when: the newest acknowledged value of each key is what remains", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: -5_000, max: 5_000 }), { minLength: 1, maxLength: 4 }),
      fc.array(step, { maxLength: 60 }),
      fc.array(fc.nat(), { minLength: 4, maxLength: 4 }),
      (skews, steps, order) => {
        const region = new Region(skews);
        const process = (by: number): Process => region.processes[by % skews.length] as Process;
        let isLost = false;
        for (const one of steps) {
          const key = "key" in one ? (keys[one.key] as string) : "";
          if (one.kind === "feed") region.feed(process(one.by));
          else if (one.kind === "put back") region.putBack(process(one.by), key);
          else if (one.kind === "lose")
            region.lose(one.part === null ? undefined : Math.floor((region.last * one.part) / 100));
          else {
            // Nobody writes before everybody who lives has put back what the others had not: see `isSettled`.
            if (isLost) for (const each of region.processes) region.putBack(each);
            region.write(process(one.by), key, one.isDelete);
          }
          isLost = one.kind === "lose" || (isLost && one.kind !== "write");
        }
        const late = [...region.processes.keys()].sort((a, b) => (order[a] ?? 0) - (order[b] ?? 0));
        for (const index of late) region.putBack(process(index));
        for (const [key, value] of region.acknowledged)
          assert.equal(region.messages.get(key)?.value, value, key);
      },
    ),
    { numRuns: 3_000 },
  );
});

test("what was written newly on a stream that took the place of a lost one stays, whatever the clocks say", () => {
  const lost: FactVersion = { stream: "2026-01-01T00:00:00Z", revision: 9, clock: 900 };
  const there = { stream: "2026-01-02T00:00:00Z", revision: 1, clock: 5, sequence: 1, isPutBack: false };
  assert.equal(isPutBackOver(lost, there), false);
  assert.equal(isPutBackOver(lost, { ...there, stream: "2026-01-01T00:00:00Z", isPutBack: true }), true);
  assert.equal(isPutBackOver(lost, undefined), true);
  // An older stream that was restored is no new one.
  assert.equal(isPutBackOver(lost, { ...there, stream: "2025-01-01T00:00:00Z" }), true);
});

test("a sequence that was used again does not make an old value new, nor a new one old", () => {
  const lost: FactVersion = { stream: "2026-01-01T00:00:00Z", revision: 12, clock: 120 };
  const there = { stream: "2026-01-01T00:00:00Z", isPutBack: false };
  assert.equal(isPutBackOver(lost, { ...there, revision: 3, sequence: 3, clock: 30 }), true);
  for (const revision of [11, 12, 13])
    assert.equal(isPutBackOver(lost, { ...there, revision, sequence: revision, clock: 121 }), false);
});
