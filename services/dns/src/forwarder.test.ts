import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { freePort, until } from "@hearth/testkit";
import { type DnsFixture, startDns } from "./testing/dns-fixture.ts";

const skip = process.getuid?.() === 0 ? false : "needs root for addresses on the loopback";
const limit = { skip, timeout: 60_000 };
const path = `${process.env.PATH}:/usr/sbin:/sbin`;
let dns: DnsFixture;
let guest: string;
const ending: (() => Promise<unknown> | unknown)[] = [];

const zone = `$ORIGIN example.test.
@ 600 SOA ns host 1 60 60 60 30
@ 600 NS ns
ns 600 A 192.0.2.53
www 600 A 192.0.2.1
alias 600 CNAME www
${Array.from({ length: 40 }, (_, at) => `large 600 TXT "${"x".repeat(100)}${at}"`).join("\n")}
`;

/** A real authoritative server of example.test. */
async function startKnot(): Promise<number> {
  const dir = await mkdtemp(join(tmpdir(), "hearth-knot-"));
  const port = await freePort();
  await writeFile(join(dir, "zone"), zone);
  await writeFile(
    join(dir, "knot.conf"),
    `server:
    listen: 127.0.0.1@${port}
    rundir: ${dir}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: ${dir}/db
log:
  - target: stderr
    any: info
zone:
  - domain: example.test
    file: ${dir}/zone
`,
  );
  const knot = spawn("knotd", ["-c", join(dir, "knot.conf")], {
    env: { ...process.env, PATH: path },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let log = "";
  knot.stderr.on("data", (chunk: Buffer) => {
    log += chunk.toString();
  });
  ending.push(async () => {
    const ended = once(knot, "exit");
    knot.kill("SIGKILL");
    await ended;
    await rm(dir, { recursive: true, force: true });
  });
  await until("knot serves", 10_000, async () => log.includes("server started") || undefined);
  return port;
}

/** Takes questions and answers none. */
async function startSilent(): Promise<{ readonly port: number; readonly asked: Buffer[] }> {
  const asked: Buffer[] = [];
  const socket = createSocket("udp4", (message) => asked.push(message)).bind(0, "127.0.0.1");
  await once(socket, "listening");
  ending.push(() => socket.close());
  return { port: socket.address().port, asked };
}

let silent: Awaited<ReturnType<typeof startSilent>>;

before(async () => {
  if (skip !== false) return;
  silent = await startSilent();
  const knot = await startKnot();
  const nobody = await freePort();
  dns = await startDns({ upstreams: [silent.port, nobody, knot].map((port) => `127.0.0.1#${port}`) });
  guest = dns.guest(7, 2);
});
after(async () => {
  await dns?.[Symbol.asyncDispose]();
  for (const end of ending.reverse()) await end();
});

const counter = async (name: string): Promise<number> =>
  Number(new RegExp(`^hearth_dns_${name} (\\d+)$`, "m").exec(await dns.http("/metrics"))?.[1]);

test(
  "a public name is asked of the next resolver when one is silent and one is not there",
  limit,
  async () => {
    assert.deepEqual(await dns.short(guest, ["www.example.test", "A"]), ["192.0.2.1"]);
    assert.equal(await counter("upstream_timeouts_total"), 1);
    assert.equal(silent.asked.length, 1);
    // From now on the one that answered is asked first.
    assert.deepEqual(await dns.short(guest, ["alias.example.test", "A"]), ["192.0.2.1", "www.example.test."]);
    assert.equal(silent.asked.length, 1);
  },
);

test(
  "an answer is kept for as long as it holds, in any case of letters, with less to live each time",
  limit,
  async () => {
    await dns.dig(guest, "www.example.test", "A");
    const before = await counter("forwarded_total");
    const ttl = async (): Promise<number> =>
      Number(
        /WWW\.example\.test\.\s+(\d+)\s+IN\s+A/.exec(await dns.dig(guest, "WWW.example.test", "A"))?.[1],
      );
    const young = await ttl();
    assert.ok(young > 0 && young <= 600);
    await until("the TTL is smaller", 10_000, async () => ((await ttl()) < young ? true : undefined));
    assert.equal(await counter("forwarded_total"), before);
  },
);

test("a name that does not exist is kept as well, for as long as its SOA says", limit, async () => {
  assert.match(await dns.dig(guest, "none.example.test", "A"), /status: NXDOMAIN[\s\S]*IN\s+SOA/);
  const before = await counter("forwarded_total");
  assert.match(await dns.dig(guest, "none.example.test", "A"), /status: NXDOMAIN[\s\S]*IN\s+SOA/);
  assert.equal(await counter("forwarded_total"), before);
});

test("an answer that is too large for UDP is fetched over TCP, and given over TCP", limit, async () => {
  assert.match(await dns.dig(guest, "+ignore", "large.example.test", "TXT"), /flags: qr tc/);
  assert.equal((await dns.short(guest, ["large.example.test", "TXT"])).length, 40);
});

test("a resolver's refusal is passed on, and kept for a moment", limit, async () => {
  assert.match(await dns.dig(guest, "elsewhere.test", "A"), /status: REFUSED/);
  const before = await counter("forwarded_total");
  assert.match(await dns.dig(guest, "elsewhere.test", "A"), /status: REFUSED/);
  assert.equal(await counter("forwarded_total"), before);
});

test("no private name was ever asked of a resolver", limit, async () => {
  await dns.dig(guest, "nobody.internal", "A");
  await dns.dig(guest, "-x", "fd00::1");
  assert.ok(silent.asked.every((message) => !message.includes("internal") && !message.includes("arpa")));
});
