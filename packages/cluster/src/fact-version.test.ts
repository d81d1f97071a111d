import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isPutBackOver } from "./fact-version.ts";
import { WriteClock } from "./write-clock.ts";

/** Small models of a stream and of replicas; the rule and the clock are the real ones. */
interface Value {
  readonly clock: number;
  readonly revision: number;
  readonly value: number | undefined;
}
interface Message extends Value {
  readonly sequence: number;
}
interface Store {
  readonly stream: number;
  readonly last: number;
  readonly messages: ReadonlyMap<string, Message>;
}
interface Process {
  readonly clock: WriteClock;
  readonly facts: Map<string, Value & { readonly isPending: boolean }>;
  /** Whether it has noticed that the stream is not what it was. */
  hasNoticed: boolean;
}

class Region {
  readonly processes: Process[];
  readonly acknowledged = new Map<string, number | undefined>();
  readonly messages = new Map<string, Message>();
  #stream = 1;
  #made = 1;
  #last = 0;
  #nowMs = 1_000_000;
  #written = 0;

  constructor(skewsMs: readonly number[]) {
    this.processes = skewsMs.map((skewMs) => ({
      clock: new WriteClock(() => this.#nowMs + skewMs),
      facts: new Map(),
      hasNoticed: true,
    }));
  }

  get store(): Store {
    return { stream: this.#stream, last: this.#last, messages: new Map(this.messages) };
  }

  putBack(process: Process, only?: string): void {
    if (!process.hasNoticed) process.clock.jump();
    process.hasNoticed = true;
    for (const [key, fact] of process.facts)
      if (
        fact.isPending &&
        (only === undefined || key === only) &&
        isPutBackOver(fact, this.messages.get(key))
      )
        this.#put(key, fact);
  }

  /** A feed takes up what is in the stream, after everything is put back. */
  feed(process: Process): void {
    this.putBack(process);
    for (const [key, message] of this.messages) {
      process.clock.see(message.clock);
      process.facts.set(key, { ...message, isPending: false });
    }
  }

  /** Acknowledged: in the stream, and on the disk of the process that wrote it. */
  write(process: Process, key: string, isDelete: boolean): void {
    // Nobody writes before everybody who lives has put back what the others had not: `Replica.isSettled`.
    for (const each of this.processes) this.putBack(each);
    this.feed(process);
    this.#nowMs += 1;
    this.#written += 1;
    const value = isDelete ? undefined : this.#written;
    this.#put(key, { clock: process.clock.next(), revision: this.#last + 1, value });
    this.acknowledged.set(key, value);
    this.feed(process);
  }

  lose(to: Store | undefined): void {
    const store = to ?? { stream: ++this.#made, last: 0, messages: new Map() };
    const isReplaced = store.stream !== this.#stream;
    for (const process of this.processes) {
      process.hasNoticed = false;
      for (const [key, fact] of process.facts) {
        const there = store.messages.get(key);
        const isPending = fact.isPending || isReplaced || there?.clock !== fact.clock;
        process.facts.set(key, { ...fact, isPending });
      }
    }
    [this.#stream, this.#last] = [store.stream, store.last];
    this.messages.clear();
    for (const [key, message] of store.messages) this.messages.set(key, message);
  }

  /** The newest messages are gone; later ones use their sequences again. */
  shorten(to: number): void {
    const kept = [...this.messages].filter(([, { sequence }]) => sequence <= to);
    this.lose({ stream: this.#stream, last: Math.min(to, this.#last), messages: new Map(kept) });
  }

  #put(key: string, value: Value): void {
    this.#last += 1;
    this.messages.set(key, { ...value, sequence: this.#last });
  }
}

const keys = ["a", "b", "c"];
const kind = <const T extends string>(name: T) => fc.constant(name);
const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ kind: kind("write"), by: fc.nat(), key: fc.nat(2), isDelete: fc.boolean() }),
  },
  { weight: 3, arbitrary: fc.record({ kind: kind("feed"), by: fc.nat() }) },
  { weight: 3, arbitrary: fc.record({ kind: kind("put back"), by: fc.nat(), key: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ kind: kind("save") }) },
  { weight: 1, arbitrary: fc.record({ kind: kind("wipe") }) },
  { weight: 1, arbitrary: fc.record({ kind: kind("shorten"), part: fc.nat(100) }) },
  { weight: 1, arbitrary: fc.record({ kind: kind("restore"), save: fc.nat() }) },
);
const hourMs = 3600_000;

test("whoever puts back what, and when: the newest acknowledged value of each key is what remains", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: -hourMs, max: hourMs }), { minLength: 1, maxLength: 4 }),
      fc.array(step, { maxLength: 60 }),
      fc.array(fc.nat(), { minLength: 4, maxLength: 4 }),
      (skewsMs, steps, order) => {
        const region = new Region(skewsMs);
        const process = (by: number): Process => region.processes[by % skewsMs.length] as Process;
        const saves: Store[] = [];
        for (const one of steps) {
          if (one.kind === "feed") region.feed(process(one.by));
          else if (one.kind === "write") region.write(process(one.by), keys[one.key] as string, one.isDelete);
          else if (one.kind === "put back") region.putBack(process(one.by), keys[one.key]);
          else if (one.kind === "save") saves.push(region.store);
          else if (one.kind === "wipe") region.lose(undefined);
          else if (one.kind === "shorten") region.shorten(Math.floor((region.store.last * one.part) / 100));
          else if (saves.length > 0) region.lose(saves[one.save % saves.length]);
        }
        const late = [...region.processes.keys()].sort((a, b) => (order[a] ?? 0) - (order[b] ?? 0));
        for (const index of late) region.putBack(process(index));
        for (const [key, value] of region.acknowledged)
          assert.equal(region.messages.get(key)?.value, value, key);
      },
    ),
    { numRuns: 20_000 },
  );
});

test("a sequence that was used again does not make an old value new, nor a new one old", () => {
  const lost = { revision: 12, clock: 120 };
  assert.equal(isPutBackOver(lost, undefined), true);
  assert.equal(isPutBackOver(lost, { revision: 3, clock: 30 }), true);
  for (const revision of [11, 12, 13]) assert.equal(isPutBackOver(lost, { revision, clock: 121 }), false);
  assert.equal(isPutBackOver(lost, { ...lost }), false);
});

test("after a loss a host whose clock is an hour behind writes above what it never read", () => {
  const [ahead, behind] = [new WriteClock(() => 7_200_000), new WriteClock(() => 3_600_000)];
  const unread = ahead.next();
  assert.ok(behind.next() < unread);
  behind.jump();
  assert.ok(behind.next() > unread);
});
