/**
 * Large streams of a real machine hold little memory on both sides, however slow their reader is.
 *
 * A stalled reader is not given time: the most that its writer got rid of is bounded at every moment, and that
 * bound is looked at while many other calls come and go.
 */
import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { connectGuest, type GuestClient } from "../mod.ts";
import { BootedGuest, exec, missingForBoot } from "./testing/booted-guest.ts";
import { buildAgent, LocalAgent, missingForAgent } from "./testing/local-agent.ts";
import { Session } from "./testing/session.ts";

const mib = 2 ** 20;
/** What pipes, windows and sockets on the way hold at most; the data of a test is hundreds of times as much. */
const onTheWayBytes = 2 * mib;
const agentLimitBytes = 6n * BigInt(mib);
/** Garbage of this process that is not collected yet is no leak; the data itself would be one. */
const hostLimitBytes = 160 * mib;
const calls = 40;
/** Fills the pipe of a program; what comes then waits in the window of its stream, each message in a frame of its own. */
const pipeBytes = 64 * 1024;
const keys = 5_000;

interface Guest extends AsyncDisposable {
  readonly client: GuestClient;
}

interface Where {
  readonly name: string;
  readonly skip: string | false;
  readonly start: () => Promise<Guest>;
  readonly outMib: number;
  readonly inMib: number;
}

async function startLocal(): Promise<Guest> {
  const agent = new LocalAgent(buildAgent());
  const guest = await connectGuest(await agent.dial());
  return {
    client: guest.client,
    async [Symbol.asyncDispose]() {
      await guest[Symbol.asyncDispose]();
      await agent[Symbol.asyncDispose]();
    },
  };
}

const local = { name: "an agent on a socket", skip: missingForAgent(), start: startLocal };
// An emulated processor moves some 16 MiB in a second.
const booted = { name: "a machine", skip: missingForBoot(), start: () => BootedGuest.boot() };

largeStreams({ ...local, outMib: 1024, inMib: 256 });
largeStreams({ ...booted, outMib: 96, inMib: 32 });

function largeStreams({ name, skip, start, outMib, inMib }: Where): void {
  suite(`large streams of ${name}`, { skip, timeout: 120_000 }, () => {
    let guest: Guest;
    let hostBytes: number;

    before(async () => {
      guest = await start();
      hostBytes = process.memoryUsage().rss;
    });

    after(async () => {
      await guest?.[Symbol.asyncDispose]();
    });

    /** A call of its own, so that it also shows that the stream does not hold up others. */
    const checkMemory = async (): Promise<void> => {
      const { agentRssBytes } = await guest.client.stats({});
      assert.ok(
        agentRssBytes > 0n && agentRssBytes <= agentLimitBytes,
        `the agent holds ${agentRssBytes} bytes`,
      );
      const grown = process.memoryUsage().rss - hostBytes;
      assert.ok(grown <= hostLimitBytes, `this process grew by ${grown} bytes`);
    };

    const writtenBy = async (pid: number): Promise<number> => {
      const parts: Uint8Array[] = [];
      for await (const { data } of guest.client.readFile({ path: `/proc/${pid}/io` })) parts.push(data);
      return Number(/^wchar: (\d+)$/m.exec(Buffer.concat(parts).toString())?.[1]);
    };

    test(`a program waits for a reader that stands still, and ${outMib} MiB pass one that is slow`, async () => {
      async function* zeros() {
        yield { request: { case: "start" as const, value: { argv: ["cat", "/dev/zero"] } } };
        await left.promise; // the input stays open
      }
      const left = Promise.withResolvers<void>();
      let pid = 0;
      let received = 0;
      let checkedAt = 0;
      for await (const { response } of guest.client.exec(zeros())) {
        if (response.case === "started") {
          pid = response.value.pid;
          for (let call = 0; call < calls; call++) {
            await checkMemory();
            const written = await writtenBy(pid);
            assert.ok(written <= onTheWayBytes, `${written} bytes were written that nobody read`);
          }
        }
        if (response.case !== "stdout") continue;
        received += response.value.length;
        if (received >= checkedAt + 16 * mib) {
          checkedAt = received;
          await checkMemory();
        }
        if (received >= outMib * mib) break;
      }
      assert.ok(received >= outMib * mib);
      left.resolve();
      const isGone = async () => {
        const { processes } = await guest.client.listProcesses({});
        return !processes.some((process) => process.pid === pid);
      };
      const limit = AbortSignal.timeout(30_000);
      while (!(await isGone())) limit.throwIfAborted();
    });

    test(`a caller waits for a program that does not read, and ${inMib} MiB pass one that is slow`, async () => {
      const size = inMib * mib;
      const chunk = Buffer.alloc(64 * 1024, "y\n");
      const go = `/tmp/hearth-go-${process.pid}`;
      // Each dd is a process of its own, which reads its part and ends.
      const script = `while [ ! -e ${go} ]; do sleep 0.02; done; rm ${go}
      i=0; while [ $i -lt ${inMib / 8} ]; do dd bs=64k count=128 iflag=fullblock 2>/dev/null; i=$((i+1)); done | wc -c; exec cat >/dev/null`;
      let sent = 0;
      let going = false;
      async function* yes() {
        yield { request: { case: "start" as const, value: { argv: ["/bin/sh", "-c", script] } } };
        for (; sent < size; sent += chunk.length) {
          if (going && sent % (16 * mib) === 0) await checkMemory();
          yield { request: { case: "stdin" as const, value: chunk } };
        }
      }
      let counted = "";
      for await (const { response } of guest.client.exec(yes())) {
        if (response.case === "started") {
          for (let call = 0; call < calls; call++) {
            await checkMemory();
            assert.ok(sent <= onTheWayBytes, `${sent} bytes were taken that nobody read`);
          }
          going = true;
          await exec(guest.client, `: >${go}`);
        }
        if (response.case === "stdout") counted += Buffer.from(response.value).toString();
        if (response.case === "exited") assert.equal(response.value.code, 0);
      }
      assert.equal(counted, `${size}\n`);
    });

    test("a program that ends before its input does is told of at once", async () => {
      async function* yes() {
        yield { request: { case: "start" as const, value: { argv: ["head", "-c", "2"] } } };
        for (;;) yield { request: { case: "stdin" as const, value: Buffer.from("yyyyyyyyyyyyyyyy") } };
      }
      let said = "";
      for await (const { response } of guest.client.exec(yes())) {
        if (response.case === "stdout") said += Buffer.from(response.value).toString();
        if (response.case === "exited") assert.equal(response.value.code, 0);
      }
      assert.equal(said, "yy");
      await checkMemory();
    });

    test("a program that does not read what is typed key by key ends nobody's conversation", async () => {
      const waiting = Promise.withResolvers<void>();
      const left = new AbortController();
      async function* typing() {
        yield { request: { case: "start" as const, value: { argv: ["sleep", "1000"] } } };
        yield { request: { case: "stdin" as const, value: Buffer.alloc(pipeBytes) } };
        for (let key = 1; ; key++) {
          if (key === keys) waiting.resolve();
          yield { request: { case: "stdin" as const, value: Buffer.from("y") } };
        }
      }
      const replies = guest.client.exec(typing(), { signal: left.signal })[Symbol.asyncIterator]();
      await replies.next();
      await Promise.race([waiting.promise, replies.next()]);
      const { output } = await exec(guest.client, "echo still here");
      assert.equal(output, "still here\n");
      await checkMemory();
      left.abort();
    });

    test("programs that do not read leave the others their share of the conversation", async () => {
      const full: Session[] = [];
      for (let i = 0; i < 8; i++) {
        const session = Session.exec(guest.client, "sleep 1000");
        full.push(session);
        await session.started();
        for (let part = 0; part < 16; part++) session.type("y".repeat(32 * 1024));
      }
      const { output } = await exec(guest.client, "echo still here");
      assert.equal(output, "still here\n");
      await checkMemory();
      for (const session of full) await session[Symbol.asyncDispose]();
    });
  });
}
