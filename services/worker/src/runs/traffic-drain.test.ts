import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { describe, test } from "node:test";
import { newInstanceId } from "@hearth/machine";
import { parseClusterPrefix } from "@hearth/network";
import type { MachineRow } from "../machines/machine-row.ts";
import { agentProgram } from "../testing/agent-guest.ts";
import { freePort } from "../testing/free-port.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { startWorker } from "../testing/worker-fixture.ts";
import { defaultStepLimits } from "./step-limits.ts";
import { doorConnections, drainLimitMs, type QuietWait, servedPorts, untilQuiet } from "./traffic-drain.ts";

const prefix = parseClusterPrefix("fd12:3456:789a::/48");
const limits = { trafficToldMs: 100, trafficSettleMs: 250, trafficLookMs: 50, trafficAskMs: 70 };
const service = (internal_port: number, more: object = {}) => ({
  protocol: "tcp",
  internal_port,
  ports: [{ port: 80, handlers: ["http"] }],
  ...more,
});

// As a kernel of a little-endian machine prints them: fd12:3456:789a:1:0:7:0:2 and its peers.
const guest = "563412FD01009A780700000002000000";
const ownHost = "563412FD01009A780000000001000000";
const otherHost = "563412FD02009A780000000001000000";
const machine = "563412FD02009A780700000003000000";
const socket = (at: string, port: string, peer: string, state: string): string =>
  `   1: ${at}:${port} ${peer}:C350 ${state} 00000000:00000000 02:000005F8 00000000     0        0 5 2 0 100 0 0 10 -1`;
const tableOf = (...rows: string[]): string =>
  `  sl  local_address                         remote_address                        st tx_queue\n${rows.join("\n")}\n`;

describe("connections of doors in the guest's table of sockets", () => {
  const ports = new Set([8080]);
  test("those from hosts count, at the ports of services only", () => {
    const table = tableOf(
      socket(guest, "1F90", ownHost, "01"),
      socket(guest, "1F90", otherHost, "01"),
      socket(guest, "0050", ownHost, "01"),
    );
    assert.equal(doorConnections(table, ports, prefix), 2);
  });
  test("those of machines do not, as these are not led by a door", () => {
    assert.equal(doorConnections(tableOf(socket(guest, "1F90", machine, "01")), ports, prefix), 0);
  });
  test("listeners and what is over do not count; what still has bytes to send does", () => {
    const over = ["0A", "06", "05", "07"].map((state) => socket(guest, "1F90", ownHost, state));
    assert.equal(doorConnections(tableOf(...over), ports, prefix), 0);
    const busy = ["03", "04", "08", "09", "0B"].map((state) => socket(guest, "1F90", ownHost, state));
    assert.equal(doorConnections(tableOf(...busy), ports, prefix), 5);
  });
  test("what is no table has none", () => {
    assert.equal(doorConnections("\0 1: x:1F90 y:1 01 \n", ports, prefix), 0);
  });
});

test("the ports are those of the version that runs and of the one that follows", () => {
  const config = { image: "x", services: [service(1), service(2, { protocol: "udp" })] };
  const rollback = { kind: "to", config: { image: "x", services: [service(3), service(4, { ports: [] })] } };
  assert.deepEqual([...servedPorts({ config, rollback } as unknown as MachineRow)], [1, 3]);
});

test("a machine without services, or one that is killed, is not waited for; the others as long as their program", () => {
  const rowOf = (services: object[], stop: object | null, timeout?: string) => {
    const config = { image: "x", services, ...(timeout && { stop_config: { timeout } }) };
    return { config, stop, rollback: null, image: null } as unknown as MachineRow;
  };
  const limit = (...args: Parameters<typeof rowOf>) => drainLimitMs(rowOf(...args), defaultStepLimits);
  assert.equal(limit([], {}), 0);
  assert.equal(limit([service(1)], { force: true }), 0);
  assert.equal(limit([service(1)], { timeoutMs: 0 }), 0);
  assert.equal(limit([service(1)], null), 5_000);
  assert.equal(limit([service(1)], {}, "20s"), 20_000);
  assert.equal(limit([service(1)], {}, "10m"), defaultStepLimits.trafficDrainMs);
});

describe("the wait for requests to end", () => {
  const waiting = (more: Partial<QuietWait> = {}) => {
    const clock = new ManualClock();
    const counts: number[] = [];
    const wait = untilQuiet({
      ...{ clock, limits, limitMs: 5_000, isTold: () => true, over: new Promise(() => undefined) },
      connections: async () => counts.shift() ?? 0,
      signal: new AbortController().signal,
      ...more,
    });
    return { clock, counts, wait };
  };

  test("doors get the time to hear of it also when there is no connection", async () => {
    const { clock, wait } = waiting();
    await clock.until(250, 5_000);
    clock.advance(250);
    assert.equal(await wait, "quiet");
    assert.equal(clock.sleeping, 0, "no timer is left");
  });

  test("it goes on while a door has a connection", async () => {
    const { clock, counts, wait } = waiting();
    counts.push(2, 1);
    await clock.until(250, 5_000);
    clock.advance(250);
    await clock.until(50, 4_750);
    clock.advance(50);
    await clock.until(50, 4_700);
    clock.advance(50);
    assert.equal(await wait, "quiet");
  });

  test("it ends at its limit with the requests still there", async () => {
    const { clock, wait } = waiting({ connections: async () => 1, limitMs: 300 });
    await clock.until(250, 300);
    clock.advance(250);
    await clock.until(50, 50);
    clock.advance(50);
    assert.equal(await wait, "busy");
    assert.equal(clock.sleeping, 0);
  });

  test("it ends when the program does", async () => {
    const over = Promise.withResolvers<void>();
    const { clock, wait } = waiting({ over: over.promise });
    await clock.until(250, 5_000);
    over.resolve();
    assert.equal(await wait, "over");
  });

  test("a fact that cannot be told in time is not waited for longer", async () => {
    const { clock, wait } = waiting({ isTold: () => false });
    await clock.until(50, 5_000);
    clock.advance(50);
    await clock.until(50, 4_950);
    clock.advance(50);
    assert.equal(await wait, "untold");
  });

  test("a guest that does not say how many there are holds nothing up", async () => {
    const { clock, wait } = waiting({ connections: () => new Promise(() => undefined) });
    await clock.until(250, 5_000);
    clock.advance(250);
    await clock.until(70, 4_750);
    clock.advance(70);
    assert.equal(await wait, "unanswered");
    assert.equal(clock.sleeping, 0);
  });

  test("a worker that stops lets go of it", async () => {
    const stopping = new AbortController();
    const { clock, wait } = waiting({ signal: stopping.signal });
    await clock.until(250, 5_000);
    stopping.abort(new Error("the worker stops"));
    await assert.rejects(wait, /the worker stops/);
  });
});

/** Says when it has a request, answers it when a second one comes, and ends at once when it is asked to end. */
const server = (port: number): string => `
  process.on("SIGTERM", () => process.exit(9));
  let held;
  require("net").createServer((socket) => socket.once("data", () => {
    if (held === undefined) { held = socket; socket.write("taken\\n"); return; }
    held.end("whole answer\\n");
    socket.end();
  })).listen(${port}, "::", () => console.log("listening"));`;

const skip = existsSync(agentProgram) ? false : "the guest agent is not built";

describe("a machine that serves", { skip, timeout: 60_000 }, () => {
  const dial = async (port: number): Promise<Socket> => {
    for (;;) {
      const socket = connect({ port, host: "::1" });
      try {
        await once(socket, "connect");
        return socket;
      } catch {
        socket.destroy();
      }
    }
  };

  for (const end of ["stop", "restart", "update", "destroy"] as const)
    test(`a request that is under way at a ${end} is answered before its program is signalled`, async () => {
      await using worker = await startWorker({ limits: { trafficSettleMs: 20 } });
      const port = await freePort();
      const config = {
        init: { exec: [process.execPath, "-e", server(port)] },
        services: [service(port)],
        stop_config: { timeout: "50s" },
      };
      const { record } = await worker.create(config);
      await worker.state(record.id, "started");
      const asking = await dial(port);
      const text: string[] = [];
      asking.on("data", (chunk: Buffer) => void text.push(chunk.toString()));
      asking.write("GET\n");
      await once(asking, "data");
      const target = { machine_id: record.id };
      const left = { stop: "stopping", restart: "starting", update: "replacing", destroy: "destroying" }[end];
      const newer = { image: record.config.image, init: { exec: ["/bin/sleep", "1000"] } };
      if (end === "update")
        await worker.command("update", {
          ...target,
          instance_id: newInstanceId(randomBytes, () => Date.now()),
          config: newer,
          launch: true,
        });
      else await worker.command(end, { ...target, ...(end === "destroy" && { force: true }) });
      // Doors hear that it goes, while it still answers.
      await worker.state(record.id, left);
      const asked = await dial(port);
      asked.on("error", () => undefined);
      asked.write("now\n");
      await once(asking, "close");
      assert.equal(text.join(""), "taken\nwhole answer\n");
      const there = { stop: "stopped", restart: "started", update: "started", destroy: "destroyed" }[end];
      await worker.state(record.id, there);
      const steps = worker.rows("SELECT name FROM steps WHERE name = 'traffic-drain' AND state = 'done'");
      assert.equal(steps.length, 1);
    });
});
