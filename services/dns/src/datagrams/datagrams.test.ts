/** What holds for datagrams whichever way they go, over real sockets. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { networkInterfaces } from "node:os";
import { test } from "node:test";
import { freePort, until } from "@hearth/testkit";
import { datagramWays } from "../testing/datagram-ways.ts";
import type { DatagramHandler, Datagrams } from "./datagrams.ts";
import { addressAt, addressWords, byteAt, slotBytes, slots } from "./lanes.ts";
import { addressPort, addressText, writeAddress } from "./socket-address.ts";

const limit = { timeout: 30_000 };
const waitMs = 10_000;
const receiveBufferBytes = 4 << 20;
const [batches, single] = datagramWays;
const programs = { PATH: `${process.env.PATH}:/usr/sbin:/sbin` };

test("the native part is there, and what is none leaves the other way, with a reason", () => {
  assert.deepEqual([batches?.way, batches?.reason], ["batches", undefined]);
  assert.equal(single?.way, "single");
  assert.ok(single.reason);
});

for (const { way, open } of datagramWays) {
  interface Echo extends AsyncDisposable {
    readonly datagrams: Datagrams;
    /** How many datagrams came at once. */
    readonly counts: number[];
    readonly sources: string[];
    lost: number;
  }

  /** Sends back what comes, as it came. */
  const startEcho = async (
    address: string,
    handler: Partial<DatagramHandler> = {},
    port = 0,
  ): Promise<Echo> => {
    const counts: number[] = [];
    const sources: string[] = [];
    const received = (count: number): void => {
      counts.push(count);
      const { incoming, outgoing } = echo.datagrams;
      for (let slot = 0; slot < count; slot += 1) {
        const at = addressAt(slot);
        sources.push(`${addressText(incoming.addresses, at)} ${addressPort(incoming.addresses, at)}`);
        outgoing.addresses.set(incoming.addresses.subarray(at, at + addressWords), at);
        outgoing.lengths[slot] = Math.min(incoming.lengths[slot] ?? 0, slotBytes);
        incoming.bytes.copy(outgoing.bytes, byteAt(slot), byteAt(slot), byteAt(slot) + slotBytes);
      }
      echo.datagrams.send(count);
    };
    const lost = (count: number): void => {
      echo.lost += count;
    };
    const options = { address, port, receiveBufferBytes, handler: { received, lost, ...handler } };
    const echo = {
      ...{ datagrams: await open(options), counts, sources, lost: 0 },
      [Symbol.asyncDispose]: () => echo.datagrams.close(),
    };
    return echo;
  };

  test(`${way}: a burst larger than a batch comes and goes in order, with both families`, limit, async () => {
    for (const address of ["127.0.0.1", "::1"]) {
      await using echo = await startEcho(address);
      await using client = await startClient(address, echo.datagrams.port);
      const sent = Array.from({ length: 6 * slots + 5 }, (_, at) => Buffer.from(`datagram ${at}`));
      for (const one of sent) client.socket.send(one);
      assert.deepEqual(await client.answers(sent.length), sent.map(String));
      const most = Math.max(...echo.counts);
      assert.equal(most, way === "batches" ? slots : 1);
      assert.equal(echo.lost, 0);
    }
  });

  test(`${way}: each of many sources gets what it sent, and is known by its address`, limit, async () => {
    await using echo = await startEcho("127.0.0.1");
    const addresses = Array.from({ length: 3 * slots }, (_, at) => `127.0.${at >> 4}.${1 + at}`);
    const clients = await Promise.all(
      addresses.map((from) => startClient("127.0.0.1", echo.datagrams.port, from)),
    );
    try {
      for (const [at, { socket }] of clients.entries()) socket.send(Buffer.alloc(1 + at, at));
      const answers = await Promise.all(clients.map((client) => client.answers(1)));
      assert.deepEqual(
        answers.map(([one]) => one),
        clients.map((_, at) => String(Buffer.alloc(1 + at, at))),
      );
      const asked = clients.map(({ socket }) => `${socket.address().address} ${socket.address().port}`);
      assert.deepEqual(echo.sources, asked);
    } finally {
      await Promise.all(clients.map((client) => client[Symbol.asyncDispose]()));
    }
  });

  test(`${way}: one that is too long says so, and harms none beside it`, limit, async () => {
    const seen: number[] = [];
    const first: (number | undefined)[] = [];
    const received = (count: number): void => {
      const { lengths, bytes } = listening.datagrams.incoming;
      for (let slot = 0; slot < count; slot += 1) {
        seen.push(lengths[slot] ?? -1);
        first.push(bytes[byteAt(slot)], bytes[byteAt(slot) + Math.min(lengths[slot] ?? 1, slotBytes) - 1]);
      }
    };
    await using listening = await startEcho("127.0.0.1", { received });
    await using client = await startClient("127.0.0.1", listening.datagrams.port);
    const lengths = [5, slotBytes, slotBytes + 1, 60_000, 7];
    for (const [at, length] of lengths.entries()) client.socket.send(Buffer.alloc(length, at + 1));
    await until("all came", waitMs, async () => seen.length === lengths.length || undefined);
    assert.ok(seen[0] === 5 && seen[1] === slotBytes && seen[4] === 7, String(seen));
    assert.ok((seen[2] ?? 0) > slotBytes && (seen[3] ?? 0) > slotBytes, String(seen));
    assert.deepEqual(first, [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
  });

  test(`${way}: an empty datagram is one, too`, limit, async () => {
    await using echo = await startEcho("::1");
    await using client = await startClient("::1", echo.datagrams.port);
    client.socket.send("");
    client.socket.send("after");
    assert.deepEqual(await client.answers(2), ["", "after"]);
  });

  test(`${way}: what the kernel refuses to send is counted, and keeps back nothing else`, limit, async () => {
    await using echo = await startEcho("127.0.0.1");
    await using client = await startClient("127.0.0.1", echo.datagrams.port);
    const { outgoing } = echo.datagrams;
    const { port } = client.socket.address();
    for (const [slot, address] of ["127.0.0.1", "255.255.255.255", "127.0.0.1", "127.0.0.1"].entries()) {
      writeAddress(outgoing.addresses, addressAt(slot), { address, port });
      outgoing.lengths[slot] = outgoing.bytes.write(`slot ${slot}`, byteAt(slot));
    }
    echo.datagrams.send(4);
    assert.deepEqual(await client.answers(3), ["slot 0", "slot 2", "slot 3"]);
    await until("it is counted", waitMs, async () => echo.lost === 1 || undefined);
  });

  test(`${way}: closed in the middle of a batch, it takes no more and its port is free`, limit, async () => {
    let calls = 0;
    const received = (): void => {
      calls += 1;
      void echo.datagrams.close();
      echo.datagrams.send(1);
    };
    const echo = await startEcho("::1", { received });
    const { port, incoming } = echo.datagrams;
    await using client = await startClient("::1", port);
    // Errors of ports that nobody listens at.
    client.socket.on("error", () => undefined);
    for (let at = 0; at < 5 * slots; at += 1) client.socket.send(`datagram ${at}`);
    await until("one came", waitMs, async () => calls > 0 || undefined);
    await echo.datagrams.close();
    const handler = { received: () => undefined, lost: () => undefined };
    const next = await open({ address: "::1", port, receiveBufferBytes, handler });
    assert.equal(calls, 1);
    assert.equal(incoming.bytes.toString("latin1", 0, 10), "datagram 0", "the memory is still there");
    await next.close();
    await next.close();
    next.send(1);
  });

  test(`${way}: an address that is taken, or not there, is said by its code`, limit, async () => {
    await using taken = await startEcho("::1");
    const handler = { received: () => undefined, lost: () => undefined };
    const bound = (address: string, port: number) => open({ address, port, receiveBufferBytes, handler });
    await assert.rejects(bound("::1", taken.datagrams.port), { code: "EADDRINUSE" });
    await assert.rejects(bound("2001:db8::1", 0), { code: "EADDRNOTAVAIL" });
    // As IPv6 is by itself, the same port is free in IPv4.
    const both = await bound("::", 0);
    const other = await bound("0.0.0.0", both.port);
    await Promise.all([both.close(), other.close()]);
  });

  const skip = process.getuid?.() === 0 ? false : "needs root for a link to nobody";
  test(`${way}: an error on the socket itself ends nothing`, { ...limit, skip }, async () => {
    // A port that was asked for stays the socket's.
    await using echo = await startEcho("::1", {}, await freePort());
    await using client = await startClient("::1", echo.datagrams.port);
    execFileSync("ss", ["-K", "-u", "-a", "-n", "sport", "=", `:${echo.datagrams.port}`], { env: programs });
    client.socket.send("after");
    assert.deepEqual(await client.answers(1), ["after"]);
  });

  test(`${way}: a kernel that takes no more is not waited for`, { ...limit, skip }, async () => {
    const link = `hd${randomBytes(4).toString("hex")}`;
    const ip = (...args: string[]) => execFileSync("ip", args, { env: programs });
    ip("link", "add", link, "type", "veth", "peer", "name", `${link}p`);
    try {
      for (const one of [link, `${link}p`]) ip("link", "set", one, "up");
      ip("-6", "addr", "add", "fd99:9999:9999::1/64", "dev", link, "nodad");
      await using echo = await startEcho("::");
      const { outgoing } = echo.datagrams;
      // Whoever is asked for there does not answer, and meanwhile the datagrams fill what the socket may hold.
      for (let slot = 0; slot < slots; slot += 1) {
        const nobody = `fd99:9999:9999::${(2 + slot).toString(16)}`;
        writeAddress(outgoing.addresses, addressAt(slot), { address: nobody, port: 9 });
        outgoing.lengths[slot] = 1_200;
      }
      const sent = 100 * slots;
      for (let batch = 0; batch < 100; batch += 1) echo.datagrams.send(slots);
      assert.ok(echo.lost > 0 && echo.lost < sent, String(echo.lost));
      // What waits for nobody goes with the link, and then others are answered again.
      ip("link", "del", link);
      await using client = await startClient("::1", echo.datagrams.port);
      await until("it answers again", waitMs, async () => {
        client.socket.send("again");
        return (await client.answers(1, 500).catch(() => undefined)) !== undefined || undefined;
      });
    } finally {
      if (Object.hasOwn(networkInterfaces(), link)) ip("link", "del", link);
    }
  });
}

interface Client extends AsyncDisposable {
  readonly socket: Socket;
  /** The next answers, as text. */
  answers(count: number, withinMs?: number): Promise<string[]>;
}

async function startClient(address: string, port: number, from?: string): Promise<Client> {
  const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
  const came: string[] = [];
  socket.on("message", (message) => came.push(String(message)));
  if (from !== undefined) {
    socket.bind(0, from);
    await once(socket, "listening");
  }
  socket.connect(port, address);
  await once(socket, "connect");
  socket.setRecvBufferSize(receiveBufferBytes);
  return {
    socket,
    async answers(count, withinMs = waitMs) {
      await until(`${count} answers`, withinMs, async () => came.length >= count || undefined);
      return came.splice(0, count);
    },
    async [Symbol.asyncDispose]() {
      const closed = once(socket, "close");
      socket.close();
      await closed;
    },
  };
}
