/** The server over real sockets, by both ways of moving datagrams: they are the same to whoever asks. */
import assert from "node:assert/strict";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { parseClusterPrefix } from "@hearth/network";
import { until } from "@hearth/testkit";
import dnsPacket from "dns-packet";
import fc from "fast-check";
import type { OpenDatagrams } from "./datagrams/datagrams.ts";
import { slotBytes } from "./datagrams/lanes.ts";
import { Forwarder } from "./forwarder.ts";
import { Metrics } from "./metrics.ts";
import { NameIndex } from "./name-index.ts";
import { Resolver } from "./resolver.ts";
import { SourceTable } from "./source-table.ts";
import { datagramWays } from "./testing/datagram-ways.ts";
import { machineFact } from "./testing/machine-fact.ts";
import { UdpServer } from "./udp-server.ts";
import type { Upstream } from "./upstream-query.ts";

const limit = { timeout: 60_000 };
const waitMs = 5_000;
const prefix = parseClusterPrefix("fd12:3456:789a::/48");
const hostAddresses = new Set(["::1", "127.0.0.1"]);

interface Service extends AsyncDisposable {
  readonly metrics: Metrics;
  readonly index: NameIndex;
  readonly port: number;
  readonly socket: Socket;
  readonly came: Buffer[];
  /** What is answered to these before the answer to one more question. */
  ask(...messages: Buffer[]): Promise<Buffer[]>;
}

interface Wish {
  readonly open: OpenDatagrams;
  readonly address?: string;
  /** Of public names; with none, they are all answered at once, by a failure. */
  readonly upstreams?: readonly Upstream[];
}

async function serve({ open, address = "::1", upstreams = [] }: Wish): Promise<Service> {
  const index = new NameIndex("n1");
  for (let machine = 16; machine < 20; machine += 1) {
    const { key, fact } = machineFact(prefix, { app: "web", network: 7, machine });
    index.take({ key, value: fact, revision: machine });
  }
  const metrics = new Metrics();
  const forwarder = new Forwarder({ upstreams, metrics, attemptMs: 20, totalMs: 100 });
  const place = { nodeId: "n1", region: "here", resolverAddress: "fd12:3456:789a::3" };
  const resolver = new Resolver({ index, metrics, forwarder, place });
  const sources = new SourceTable({ index, prefix, hostNumber: 1, hostAddresses: () => hostAddresses });
  const server = new UdpServer({ resolver, sources, metrics }, open);
  const port = await server.start(address, 0);
  const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
  socket.connect(port, address);
  await once(socket, "connect");
  socket.setRecvBufferSize(4 << 20);
  const came: Buffer[] = [];
  socket.on("message", (message) => came.push(message));
  let last = 0;
  const service: Service = {
    ...{ metrics, index, port, socket, came },
    async ask(...messages) {
      last = (last + 1) & 0xffff;
      const end = query(last, "_apps.internal", "TXT");
      for (const one of [...messages, end]) socket.send(one);
      const isEnd = (one: Buffer): boolean => one.readUInt16BE(0) === last && one.includes("_apps");
      for (;;) {
        if (came.some(isEnd)) return came.splice(0).filter((one) => !isEnd(one));
        await once(socket, "message", { signal: AbortSignal.timeout(waitMs) });
      }
    },
    async [Symbol.asyncDispose]() {
      socket.close();
      await server.stop();
    },
  };
  return service;
}

const query = (id: number, name: string, type: "AAAA" | "TXT" | "A" = "AAAA"): Buffer =>
  dnsPacket.encode({ type: "query", id, flags: dnsPacket.RECURSION_DESIRED, questions: [{ name, type }] });

const services: Service[] = [];
before(async () => {
  for (const { open } of datagramWays) services.push(await serve({ open }));
});
after(async () => {
  for (const service of services) await service[Symbol.asyncDispose]();
});

const hex = (messages: readonly Buffer[]): string[] => messages.map((one) => one.toString("hex"));

test("whatever comes is answered alike by both ways, and what is no query by neither", limit, async () => {
  const valid = query(1, "web.internal");
  const broken = fc
    .tuple(fc.nat(valid.length), fc.integer({ min: 0, max: 255 }), fc.nat(valid.length))
    .map(([at, byte, length]) => {
      const message = Buffer.from(valid);
      message[at % valid.length] = byte;
      return message.subarray(0, length === 0 ? valid.length : length);
    });
  const noise = fc.uint8Array({ maxLength: 600 }).map((bytes) => Buffer.from(bytes));
  const messages = fc.array(fc.oneof(broken, noise), { maxLength: 80 });
  await fc.assert(
    fc.asyncProperty(messages, async (messages) => {
      const [first, second] = await Promise.all(services.map((service) => service.ask(...messages)));
      assert.deepEqual(hex(first ?? []), hex(second ?? []));
    }),
    { numRuns: 200 },
  );
  const counts = services.map(({ metrics: { malformed, udpQueries, cachedAnswers, responses } }) => ({
    ...{ malformed, udpQueries, cachedAnswers, responses: [...responses] },
  }));
  assert.deepEqual(counts[0], counts[1]);
  assert.ok((counts[0]?.malformed ?? 0) > 100 && (counts[0]?.cachedAnswers ?? 0) > 100);
});

for (const [at, { way, open }] of datagramWays.entries()) {
  const serviceOf = (): Service => {
    const service = services[at];
    assert.ok(service !== undefined);
    return service;
  };

  test(
    `${way}: each question of a burst has its own answer, in order, new or asked before`,
    limit,
    async () => {
      const service = serviceOf();
      const names = Array.from({ length: 500 }, (_, id) =>
        id % 3 === 0 ? "web.internal" : `no${id % 7}.internal`,
      );
      const answers = await service.ask(...names.map((name, id) => query(id, name)));
      assert.equal(answers.length, names.length);
      for (const [id, bytes] of answers.entries()) {
        const answer = dnsPacket.decode(bytes);
        assert.equal(answer.id, id);
        assert.equal(answer.questions?.[0]?.name, names[id]);
        assert.equal(answer.answers?.length, names[id] === "web.internal" ? 4 : 0);
      }
    },
  );

  test(`${way}: what was asked before is not made again, whatever lay there in between`, limit, async () => {
    const service = serviceOf();
    await service.ask(query(1, "web.internal"), query(2, "a-name-that-is-long.and-has-parts.web.internal"));
    const { cachedAnswers, privateAnswers } = service.metrics;
    for (let turn = 0; turn < 3; turn += 1) {
      await service.ask(Buffer.alloc(99, 200 + turn));
      await service.ask(query(turn, "web.internal"));
    }
    assert.equal(service.metrics.cachedAnswers, cachedAnswers + 9);
    assert.equal(service.metrics.privateAnswers, privateAnswers);
  });

  test(`${way}: a name that changed is answered anew`, limit, async () => {
    const service = serviceOf();
    const count = async (): Promise<number | undefined> =>
      (await service.ask(query(9, "web.internal"))).map((one) => dnsPacket.decode(one).answers?.length)[0];
    assert.equal(await count(), 4);
    const { key, fact } = machineFact(prefix, { app: "web", network: 7, machine: 40 });
    service.index.take({ key, value: fact, revision: 40 });
    assert.equal(await count(), 5);
    service.index.take({ key, value: undefined, revision: 41 });
    assert.equal(await count(), 4);
  });

  test(`${way}: what is too long for a query is counted, and has no answer`, limit, async () => {
    const service = serviceOf();
    const { malformed, udpQueries } = service.metrics;
    const long = Buffer.concat([query(1, "web.internal"), Buffer.alloc(slotBytes)]);
    assert.deepEqual(await service.ask(long), []);
    assert.equal(service.metrics.malformed, malformed + 1);
    assert.equal(service.metrics.udpQueries, udpQueries + 2);
  });

  test(`${way}: an answer that comes late goes to its asker, whoever asked since`, limit, async () => {
    // Nobody listens there.
    await using service = await serve({ open, upstreams: [{ address: "127.0.0.1", port: 9 }] });
    const other = createSocket("udp6");
    const late: Buffer[] = [];
    other.on("message", (message) => late.push(message));
    other.connect(service.port, "::1");
    await once(other, "connect");
    try {
      const asked = Array.from({ length: 40 }, (_, id) => query(1_000 + id, `name${id}.example`, "A"));
      for (const one of asked) other.send(one);
      const many = Array.from({ length: 100 }, (_, id) => query(id, "web.internal"));
      assert.equal((await service.ask(...many)).length, many.length);
      await until("all late answers came", waitMs, async () => late.length === asked.length || undefined);
      const answers = late.map((one) => dnsPacket.decode(one));
      assert.deepEqual(
        answers.map(({ id, questions }) => `${id} ${questions?.[0]?.name}`).sort(),
        asked.map((_, id) => `${1_000 + id} name${id}.example`).sort(),
      );
      assert.deepEqual(service.came, []);
    } finally {
      other.close();
    }
  });

  test(`${way}: in IPv4 too, and an address that is no longer the host's is refused`, limit, async () => {
    await using service = await serve({ open, address: "127.0.0.1" });
    assert.equal((await service.ask(query(1, "web.internal"), query(2, "web.internal"))).length, 2);
    // An address of the host that a guest has in IPv4 is the guest's.
    const { key, fact } = machineFact(prefix, { app: "own", network: 8, machine: 50 });
    service.index.take({ key, value: { ...fact, egress_ip: "127.0.0.1" }, revision: 50 });
    const [answer] = await service.ask(query(3, "web.internal"));
    assert.ok(answer !== undefined);
    assert.equal(dnsPacket.decode(answer).answers?.length, 0, "another network's name");
    assert.equal((answer[3] ?? 0) & 15, 3);
  });
}
