import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, createConnection } from "node:net";
import { after, before, suite, test } from "node:test";
import { parseMachineAddress } from "@hearth/network";
import { type DnsFixture, ip, startDns } from "./testing/dns-fixture.ts";

const skip = process.getuid?.() === 0 ? false : "needs root for addresses on the loopback";
const limit = { skip, timeout: 60_000 };
for (const way of ["batches", "single"] as const)
  suite(`datagrams: ${way}`, () => {
    let dns: DnsFixture;
    let guest: string;

    before(async () => {
      if (skip !== false) return;
      dns = await startDns({ way });
      guest = dns.guest(7, 2);
      for (let machine = 16; machine < 116; machine += 1)
        await dns.machine({ app: "many", machine, network: 7 });
      await dns.short(guest, ["+tcp", "many.internal", "AAAA"], 100);
    });
    after(async () => await dns?.[Symbol.asyncDispose]());

    test("an answer too large for UDP is cut, and whole over TCP, with EDNS and without", limit, async () => {
      for (const option of ["+noedns", "+bufsize=512", "+bufsize=4096"]) {
        const cut = await dns.dig(guest, "+ignore", option, "many.internal", "AAAA");
        assert.match(cut, /flags: qr aa tc rd ra;[\s\S]*ANSWER: 0/, option);
        assert.equal((await dns.short(guest, [option, "many.internal", "AAAA"], 100)).length, 100);
      }
      assert.match(
        await dns.dig(guest, "+edns=0", "_apps.internal", "TXT"),
        /EDNS: version: 0, flags:; udp: 1232/,
      );
      assert.match(await dns.dig(guest, "+edns=3", "+noednsnegotiation", "_apps.internal", "TXT"), /BADVERS/);
    });

    test("the letters of the question come back as they were sent, in its answers too", limit, async () => {
      for (const name of ["mAnY.InTeRnAl", "MANY.internal", "many.INTERNAL"]) {
        const answer = await dns.dig(guest, "+tcp", name, "AAAA");
        assert.ok(answer.includes(`;${name}.`), name);
        assert.match(answer, new RegExp(`^${name.replace(".", "\\.")}\\.\\s+5\\s+IN\\s+AAAA`, "m"));
      }
    });

    test("machines take turns to be the first of an answer", limit, async () => {
      for (const machine of [201, 202, 203]) await dns.machine({ app: "turns", machine, network: 7 });
      await dns.short(guest, ["turns.internal", "AAAA"], 3);
      const firsts = new Set<string>();
      for (let turn = 0; turn < 6; turn += 1) {
        const answer = await dns.dig(guest, "+short", "+noedns", "turns.internal", "AAAA");
        assert.equal(new Set(answer.trim().split("\n")).size, 3);
        firsts.add(answer.split("\n")[0] ?? "");
      }
      assert.equal(firsts.size, 3);
    });

    test(
      "what is private and unknown does not exist, at once, and is asked nowhere else",
      limit,
      async () => {
        for (const name of [
          "nobody.internal",
          "a.b.c.d.e.internal",
          "x.nobody.internal",
          "1.0.64.100.in-addr.arpa",
        ])
          assert.match(await dns.dig(guest, name, "PTR"), /status: NXDOMAIN[\s\S]*IN\s+SOA/, name);
        assert.match(await dns.dig(guest, "-x", "fd00::1"), /status: NXDOMAIN/);
        assert.match(await dns.dig(guest, "internal", "SOA"), /status: NOERROR[\s\S]*ANSWER: 1/);
        assert.match(await dns.dig(guest, "many.internal", "ANY", "+notcp"), /HINFO\s+"RFC8482"/);
        assert.match(await dns.http("/metrics"), /^hearth_dns_forwarded_total 0$/m);
      },
    );

    test("classes, opcodes and zone transfers that are not served are refused", limit, async () => {
      assert.match(await dns.dig(guest, "-c", "CH", "version.bind", "TXT"), /status: REFUSED/);
      assert.match(await dns.dig(guest, "+opcode=UPDATE", "many.internal"), /status: NOTIMP/);
      assert.match(await dns.dig(guest, "+norecurse", "example.com", "A"), /status: REFUSED/);
    });

    test("nobody but guests of this host and the host is answered", limit, async () => {
      const { prefix } = parseMachineAddress(guest);
      const elsewhere = dns.guest(7, 3).replace(/:1:0:7:/, ":2:0:7:");
      assert.notEqual(elsewhere, dns.guest(7, 3));
      const namespace = `hth-dns-${randomBytes(3).toString("hex")}`;
      const link = `hd${randomBytes(4).toString("hex")}`;
      const inside = (...args: string[]): string =>
        execFileSync("ip", ["netns", "exec", namespace, ...args], { encoding: "utf8" });
      ip("netns", "add", namespace);
      try {
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace);
        ip("addr", "add", "fd99:9999:9999::1/64", "dev", link, "nodad");
        ip("link", "set", link, "up");
        inside("ip", "addr", "add", "fd99:9999:9999::2/64", "dev", "eth0", "nodad");
        inside("ip", "addr", "add", `${elsewhere}/128`, "dev", "eth0", "nodad");
        inside("ip", "link", "set", "eth0", "up");
        inside("ip", "-6", "route", "add", `${dns.address}/128`, "via", "fd99:9999:9999::1");
        ip("-6", "route", "add", `${elsewhere}/128`, "via", "fd99:9999:9999::2");
        const ask = (from: string, ...args: string[]): string =>
          inside(
            "dig",
            "-b",
            from,
            `@${dns.address}`,
            "-p",
            String(dns.port),
            "+tries=1",
            "+time=3",
            ...args,
          );
        for (const from of ["fd99:9999:9999::2", elsewhere]) {
          assert.match(ask(from, "many.internal", "AAAA"), /status: REFUSED[\s\S]*ANSWER: 0/, from);
          assert.match(ask(from, "example.com", "A"), /status: REFUSED/, from);
          assert.throws(() => ask(from, "+tcp", "many.internal", "AAAA"), from);
        }
        assert.ok(prefix > 0n);
      } finally {
        ip("link", "del", link);
        ip("netns", "del", namespace);
      }
    });

    test("one guest has so many connections, and one that says nothing is cut off", limit, async () => {
      const other = dns.guest(7, 5);
      const open = () => connect({ host: dns.address, port: dns.port, localAddress: other });
      const sockets = Array.from({ length: 16 }, open);
      try {
        await Promise.all(sockets.map((socket) => once(socket, "connect")));
        const beyond = open();
        await once(
          beyond.on("error", () => undefined),
          "close",
        );
        const [first] = sockets;
        assert.ok(first !== undefined);
        // A length that no query has.
        first.on("error", () => undefined).write(Buffer.from([0xff, 0xff]));
        await once(first, "close");
        assert.match(await dns.dig(guest, "+tcp", "_apps.internal", "TXT"), /status: NOERROR/);
        const idle = sockets[1];
        assert.ok(idle !== undefined);
        idle.write(Buffer.from([0]));
        await once(idle.resume(), "close");
      } finally {
        for (const socket of sockets) socket.destroy();
      }
    });

    test("queries of one connection follow one another without waiting", limit, async () => {
      const socket = createConnection({ host: dns.address, port: dns.port, localAddress: guest });
      const query = (id: number): Buffer => {
        const name = Buffer.from("\x05_apps\x08internal\x00", "latin1");
        const head = Buffer.from([0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        const message = Buffer.concat([head, name, Buffer.from([0, 16, 0, 1])]);
        return Buffer.concat([Buffer.from([0, message.length]), message]);
      };
      socket.end(Buffer.concat([1, 2, 3].map(query)));
      const chunks: Buffer[] = [];
      for await (const chunk of socket) chunks.push(chunk as Buffer);
      let rest = Buffer.concat(chunks);
      const ids: number[] = [];
      while (rest.length > 2) {
        ids.push(rest.readUInt16BE(2));
        rest = rest.subarray(2 + rest.readUInt16BE(0));
      }
      assert.deepEqual(ids, [1, 2, 3]);
    });

    test("what it counts can be read, and grows", limit, async () => {
      const count = async (): Promise<number> =>
        Number(/^hearth_dns_queries_total\{transport="udp"\} (\d+)$/m.exec(await dns.http("/metrics"))?.[1]);
      const before = await count();
      await dns.dig(guest, "many.internal", "A");
      assert.ok((await count()) > before);
      assert.match(await dns.http("/metrics"), /^hearth_dns_responses_total\{rcode="NXDOMAIN"\} \d+$/m);
      const health = JSON.parse(await dns.http("/health")) as Record<string, unknown>;
      assert.ok(Number(health.replica_age_seconds ?? -1) >= 0);
      assert.equal(health.datagrams, way);
      assert.match(
        await dns.http("/metrics"),
        new RegExp(`^hearth_dns_datagrams_in_batches ${way === "batches" ? 1 : 0}$`, "m"),
      );
    });

    test("names are answered from the disk with the bus down", limit, async () => {
      await dns.stopService("SIGKILL");
      await dns.nats.stop();
      await dns.startService();
      assert.equal((await dns.short(guest, ["+tcp", "many.internal", "AAAA"])).length, 100);
    });
  });
