import assert from "node:assert/strict";
import { test } from "node:test";
import { formatMachineAddress, parseClusterPrefix, parseMachineAddress } from "@hearth/network";
import dnsPacket from "dns-packet";
import fc from "fast-check";
import { Forwarder } from "./forwarder.ts";
import { Metrics } from "./metrics.ts";
import { NameIndex } from "./name-index.ts";
import { Resolver } from "./resolver.ts";
import { SourceTable } from "./source-table.ts";
import { machineFact, machineId } from "./testing/machine-fact.ts";

const prefix = parseClusterPrefix("fd12:3456:789a::/48");
const guestAddress = (network: number): string =>
  formatMachineAddress({ prefix, host: 1, network, machine: 2 });
/** Bytes of the network in every address of it; neither is found in anything else of an answer. */
const networks = { own: 0xa1b2c3d4, other: 0xe5f60718 } as const;
const marks = { own: Buffer.from("a1b2c3d4", "hex"), other: Buffer.from("e5f60718", "hex") } as const;

function service() {
  const index = new NameIndex("n1");
  const metrics = new Metrics();
  let revision = 0;
  const take = (fact: { key: string; fact: unknown }): void => {
    revision += 1;
    index.take({ key: fact.key, value: fact.fact, revision });
  };
  for (const [app, network, from] of [
    ["web", networks.own, 16],
    ["secret", networks.other, 64],
  ] as const)
    for (let machine = from; machine < from + 20; machine += 1) {
      const services = [{ protocol: "tcp", internal_port: 80, ports: [{ port: 80, handlers: ["http"] }] }];
      take(machineFact(prefix, { app, network, machine, config: { services } }));
    }
  const place = { nodeId: "n1", region: "here", resolverAddress: "fd12:3456:789a::3" };
  const resolver = new Resolver({
    index,
    metrics,
    place,
    forwarder: new Forwarder({ upstreams: [], metrics }),
  });
  const sources = new SourceTable({ index, prefix, hostNumber: 1, hostAddresses: () => new Set() });
  return { resolver, sources, index };
}

const { resolver, sources } = service();

async function ask(message: Buffer, network: number, transport: "udp" | "tcp") {
  const source = sources.find(guestAddress(network));
  assert.ok(source !== undefined);
  return await resolver.reply(message, source, transport)?.bytes;
}

const names = fc.oneof(
  fc.constantFrom(
    ...[
      "web.internal",
      "secret.internal",
      "internal",
      "_apps.internal",
      "_instances.internal",
      "vm.web.internal",
    ],
    ...[
      "here.secret.internal",
      "top9.nearest.of.secret.internal",
      "_http._tcp.secret.internal",
      "ns.internal",
    ],
    ...[`${machineId(64)}.vm.secret.internal`, `${machineId(16)}.vm.web.internal`, "_api.internal"],
    `${[...parseAddressHex(64)].reverse().join(".")}.ip6.arpa`,
  ),
  fc
    .array(fc.constantFrom("web", "secret", "vm", "of", "nearest", "a", "_tcp", "process"), { maxLength: 6 })
    .map((labels) => [...labels, "internal"].join(".")),
);
const types = fc.oneof(
  fc.constantFrom(1, 2, 6, 12, 16, 28, 33, 41, 252, 255, 65),
  fc.integer({ min: 0, max: 65_535 }),
);

function parseAddressHex(machine: number): string {
  const address = parseMachineAddress(
    formatMachineAddress({ prefix, host: 1, network: networks.other, machine }),
  );
  const bits =
    (address.prefix << 80n) |
    (BigInt(address.host) << 64n) |
    (BigInt(address.network) << 32n) |
    BigInt(address.machine);
  return bits.toString(16).padStart(32, "0");
}

function encode(name: string, type: number, edns: number | undefined): Buffer {
  const question = Buffer.concat([dnsPacketName(name), Buffer.from([type >> 8, type & 255, 0, 1])]);
  const head = Buffer.from([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, edns === undefined ? 0 : 1]);
  const opt = Buffer.from([0, 0, 41, (edns ?? 0) >> 8, (edns ?? 0) & 255, 0, 0, 0, 0, 0, 0]);
  return Buffer.concat([head, question, ...(edns === undefined ? [] : [opt])]);
}

const dnsPacketName = (name: string): Buffer =>
  Buffer.concat([
    ...name
      .split(".")
      .map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label, "latin1")])),
    Buffer.from([0]),
  ]);

const queries = fc
  .tuple(names, types, fc.option(fc.integer({ min: 0, max: 65_535 }), { nil: undefined }))
  .map(([name, type, edns]) => encode(name, type, edns));
/** What a hostile client makes of one: bytes changed, cut off or added, counts that lie, pointers that go round. */
const hostile = fc
  .tuple(
    queries,
    fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 6 }),
    fc.nat({ max: 80 }),
    fc.uint8Array({ maxLength: 600 }),
  )
  .map(([query, changes, cut, tail]) => {
    const bytes = Buffer.concat([query.subarray(0, Math.max(0, query.length - cut)), tail]);
    for (const [at, byte] of changes) if (bytes.length > 0) bytes[at % bytes.length] = byte;
    return bytes;
  });

test("no bytes break it, and none bring out a name of another network", async () => {
  const anything = fc.oneof(
    hostile,
    queries,
    fc.uint8Array({ maxLength: 1_500 }).map((one) => Buffer.from(one)),
  );
  await fc.assert(
    fc.asyncProperty(
      anything,
      fc.constantFrom("udp" as const, "tcp" as const),
      async (message, transport) => {
        const answer = await ask(message, networks.own, transport);
        if (answer === undefined) return;
        assert.ok(answer.length <= (transport === "udp" ? 1_232 : 65_535));
        assert.ok(answer.subarray(0, 2).equals(message.subarray(0, 2)), "the id is that of the query");
        assert.ok(((answer[2] ?? 0) & 0x80) !== 0, "it is a response");
        // What the client wrote itself comes back in the question.
        const own = message.includes(marks.other);
        assert.ok(own || !answer.includes(marks.other), "an address of another network");
        dnsPacket.decode(answer);
      },
    ),
    { numRuns: 5_000 },
  );
});

test("the same questions bring out the names of their own network", async () => {
  const answer = await ask(encode("web.internal", 28, 1_232), networks.own, "udp");
  assert.equal(answer?.readUInt16BE(6), 20);
  assert.ok(answer?.includes(marks.own));
  const other = await ask(encode("secret.internal", 28, 1_232), networks.other, "udp");
  assert.ok(other?.includes(marks.other));
});

test("known tricks are told by their code, or by nothing", async () => {
  const rcode = async (message: Buffer): Promise<number | undefined> => {
    const answer = await ask(message, networks.own, "udp");
    return answer === undefined ? undefined : (answer[3] ?? 0) & 15;
  };
  const good = encode("web.internal", 28, undefined);
  const changed = (at: number, ...bytes: number[]): Buffer => {
    const copy = Buffer.from(good);
    copy.set(bytes, at);
    return copy;
  };
  assert.equal(await rcode(good), 0);
  assert.equal(await rcode(changed(12, 0xc0, 12)), 1, "a pointer to itself");
  assert.equal(await rcode(changed(4, 0, 2)), 1, "two questions");
  assert.equal(await rcode(changed(4, 0xff, 0xff)), 1, "65535 questions");
  assert.equal(await rcode(changed(4, 0, 0)), 1, "no question");
  assert.equal(await rcode(changed(6, 0xff, 0xff)), 1, "answers in a query");
  assert.equal(await rcode(changed(10, 0xff, 0xff)), 1, "additional records that are not there");
  assert.equal(await rcode(good.subarray(0, good.length - 1)), 1, "cut short");
  assert.equal(await rcode(Buffer.concat([good, Buffer.from([0])])), 1, "more than a query");
  assert.equal(await rcode(changed(2, 0x81)), undefined, "an answer");
  assert.equal(await rcode(good.subarray(0, 11)), undefined, "less than a header");
  const opt = encode("web.internal", 28, 1_232).subarray(-11);
  const twice = Buffer.concat([good, opt, opt]);
  twice[11] = 2;
  assert.equal(await rcode(twice), 1, "two OPT records");
  const long = encode(Array.from({ length: 5 }, () => "a".repeat(60)).join("."), 28, undefined);
  assert.equal(await rcode(long), 1, "a name of more than 255 bytes");
  const dotted = Buffer.concat([
    good.subarray(0, 12),
    Buffer.from("\x0cweb.internal\x00\x00\x1c\x00\x01", "latin1"),
  ]);
  assert.equal(await rcode(dotted), 2, "a label with a dot in it is not two labels");
});
