import assert from "node:assert/strict";
import { test } from "node:test";
import dnsPacket, { type Packet } from "dns-packet";
import fc from "fast-check";
import { readUpstreamAnswer } from "./upstream-answer.ts";

const question = Buffer.from("\x03www\x04test\x00\x00\x01\x00\x01", "latin1");
const base = { type: "response", id: 7, questions: [{ type: "A", name: "www.test" }] } as const;
const answer = (packet: Partial<Packet>): Buffer => dnsPacket.encode({ ...base, ...packet } as Packet);
const a = (ttl: number) => ({ type: "A", name: "www.test", ttl, data: "192.0.2.1" }) as const;
const soa = (ttl: number, minimum: number) =>
  ({
    ...({ type: "SOA", name: "test", ttl } as const),
    data: { mname: "ns.test", rname: "h.test", serial: 1, refresh: 1, retry: 1, expire: 1, minimum },
  }) as const;

test("what comes back is an answer to our question, or nothing", () => {
  const right = answer({ answers: [a(60)] });
  assert.equal(readUpstreamAnswer(right, 7, question)?.answers, 1);
  assert.equal(readUpstreamAnswer(right, 8, question), undefined, "another id");
  const other = Buffer.from("\x03wwx\x04test\x00\x00\x01\x00\x01", "latin1");
  assert.equal(readUpstreamAnswer(right, 7, other), undefined, "another question");
  assert.equal(readUpstreamAnswer(answer({ type: "query" } as Packet), 7, question), undefined, "a query");
  const lies = Buffer.from(right);
  lies.writeUInt16BE(0xffff, 6);
  assert.equal(readUpstreamAnswer(lies, 7, question), undefined, "records that are not there");
});

test("it holds for as long as its shortest record, and no longer than an hour", () => {
  const ttl = (packet: Partial<Packet>): number | undefined =>
    readUpstreamAnswer(answer(packet), 7, question)?.ttlSeconds;
  assert.equal(ttl({ answers: [a(60), a(20)] }), 20);
  assert.equal(ttl({ answers: [a(2 ** 31 - 1)] }), 3_600);
  assert.equal(ttl({ answers: [a(0)] }), 0);
  assert.equal(ttl({ flags: 3, authorities: [soa(50, 9)] }), 9);
  assert.equal(ttl({ authorities: [soa(5, 90)] }), 5);
  assert.equal(ttl({ flags: 3, authorities: [soa(900, 900)] }), 60);
  assert.equal(ttl({ flags: 3 }), 0, "nothing says how long it does not exist");
});

test("no bytes break it, and what it keeps lies within the message", () => {
  const good = answer({ answers: [a(60), a(20)], authorities: [soa(50, 9)], additionals: [a(1)] });
  const changed = fc
    .tuple(
      fc.array(fc.tuple(fc.nat({ max: good.length - 1 }), fc.integer({ min: 0, max: 255 })), {
        maxLength: 8,
      }),
      fc.nat({ max: good.length }),
    )
    .map(([changes, cut]) => {
      const bytes = Buffer.from(good.subarray(0, good.length - cut));
      for (const [at, byte] of changes) if (at < bytes.length) bytes[at] = byte;
      return bytes;
    });
  const anything = fc.oneof(
    changed,
    fc.uint8Array({ maxLength: 600 }).map((one) => Buffer.from(one)),
  );
  fc.assert(
    fc.property(anything, (message) => {
      const read = readUpstreamAnswer(message, 7, question);
      if (read === undefined) return;
      assert.ok(read.records.length <= message.length);
      assert.ok(read.ttlOffsets.every((offset) => offset >= 0 && offset + 4 <= read.records.length));
      assert.ok(read.ttlSeconds >= 0 && read.ttlSeconds <= 3_600);
    }),
    { numRuns: 5_000 },
  );
});
