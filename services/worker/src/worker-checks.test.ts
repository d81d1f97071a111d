/** Health checks of machines that a worker runs, against servers of this host and the real guest agent. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { MachineCheck } from "@hearth/machine";
import { agentProgram } from "./testing/agent-guest.ts";
import { AheadClock } from "./testing/ahead-clock.ts";
import { startWorker, type WorkerFixture } from "./testing/worker-fixture.ts";

const skip = existsSync(agentProgram) ? false : "the guest agent is not built";

/** Simulated machines have no network, so their addresses lead to this host. */
const toHere = ({ port }: { readonly port: number }) => connect({ host: "::1", port });

interface Web extends AsyncDisposable {
  readonly port: number;
  readonly server: Server;
  status: number;
}

async function web(): Promise<Web> {
  const server = createServer((_request, response) => response.writeHead(made.status).end("said"));
  await new Promise<void>((resolve) => server.listen(0, "::1", resolve));
  const made: Web = {
    port: (server.address() as AddressInfo).port,
    server,
    status: 200,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  };
  return made;
}

const hour = 3_600_000;
const short = ({ name, status, output }: MachineCheck) => `${name}:${status}:${output}`;
const shown = (worker: WorkerFixture, id: string, wanted: string) =>
  worker.until(id, ({ record }) => record.checks.map(short).join() === wanted);
const revision = (worker: WorkerFixture, id: string) =>
  worker.rows(`SELECT revision, checks FROM machines WHERE machine_id = '${id}'`)[0];

describe("checks of a worker's machines", { skip, timeout: 60_000 }, () => {
  test("begin with the machine, say only what is new, and end with it", async () => {
    const clock = new AheadClock();
    await using site = await web();
    await using worker = await startWorker({ clock, connect: toHere });
    const check = { type: "http", port: site.port, interval: "1h" };
    const { record } = await worker.create({ checks: { web: check } });
    const { id } = record;
    assert.deepEqual(record.checks.map(short), ["web:warning:The machine is not started."]);
    const passing = await shown(worker, id, "web:passing:200 OK");
    const before = revision(worker, id);

    const asked = once(site.server, "request");
    await clock.asleep(hour);
    clock.advance(hour);
    await asked;
    await clock.asleep(hour);
    site.status = 503;
    clock.advance(hour);
    const critical = await shown(worker, id, "web:critical:503 Service Unavailable: said");
    assert.notEqual(critical.checks[0]?.updated_at, passing.checks[0]?.updated_at);
    const after = revision(worker, id) as { revision: number };
    assert.equal(after.revision, (before as { revision: number }).revision + 1, "one change for two probes");

    await worker.command("stop", { machine_id: id });
    await worker.state(id, "stopped");
    await shown(worker, id, "web:warning:The machine is not started.");
    assert.ok(!clock.sleeps.includes(hour), "a machine that is stopped would be probed");
  });

  test("go on under the next worker, which keeps what is known and its grace", async () => {
    const clock = new AheadClock();
    await using site = await web();
    await using worker = await startWorker({ clock, connect: toHere });
    const checks = { web: { type: "http", port: site.port, interval: "1h", grace_period: "10m" } };
    const { id } = (await worker.create({ checks })).record;
    await shown(worker, id, "web:passing:200 OK");
    const before = revision(worker, id);
    const asked = once(site.server, "request");
    await worker.restart({}, () => assert.deepEqual(clock.sleeps, [], "a worker that is gone has timers"));
    await asked;
    await clock.asleep(hour);
    assert.deepEqual(revision(worker, id), before);
    site.status = 500;
    await worker.restart();
    await shown(worker, id, "web:warning:500 Internal Server Error: said");
    await worker.restart({}, () => clock.advance(601_000));
    await shown(worker, id, "web:critical:500 Internal Server Error: said");
  });

  test("a check that passes has the program's own start to thank, not one of before", async () => {
    await using site = await web();
    await using worker = await startWorker({ connect: toHere });
    const checks = { web: { type: "http", port: site.port, interval: "1h" } };
    const { id } = (await worker.create({ checks })).record;
    await shown(worker, id, "web:passing:200 OK");
    site.status = 500;
    await worker.command("restart", { machine_id: id });
    await shown(worker, id, "web:warning:500 Internal Server Error: said");
  });

  test("exec runs a program in the machine; a service's check has its port", async () => {
    const clock = new AheadClock();
    await using site = await web();
    await using worker = await startWorker({ clock, connect: toHere });
    const marker = `${worker.config.data_dir}/healthy`;
    const script = `cat ${marker} || exit 3`;
    const checks = { job: { type: "exec", command: ["/bin/sh", "-c", script], grace_period: "1m" } };
    const services = [{ internal_port: site.port, protocol: "tcp", checks: [{ type: "tcp" }] }];
    const { id } = (await worker.create({ checks, services })).record;
    const service = `servicecheck-00-tcp-${site.port}:passing:connected to port ${site.port}`;
    const missing = `cat: ${marker}: No such file or directory`;
    await shown(worker, id, `job:warning:exit code 3: ${missing},${service}`);
    writeFileSync(marker, "fine\n");
    clock.advance(1_000);
    await shown(worker, id, `job:passing:fine,${service}`);
    rmSync(marker);
    clock.advance(60_000);
    await shown(worker, id, `job:critical:exit code 3: ${missing},${service}`);
  });

  test("a program that hangs is ended at the check's limit", async () => {
    await using worker = await startWorker();
    const pids = `${worker.config.data_dir}/pids`;
    const command = ["/bin/sh", "-c", `echo $$ >> ${pids}; exec sleep 1000`];
    const checks = { job: { type: "exec", command, timeout: "500ms" } };
    const { id } = (await worker.create({ checks })).record;
    await shown(worker, id, "job:warning:no answer within 500ms");
    const [pid] = readFileSync(pids, "utf8").split("\n");
    assert.match(pid ?? "", /^\d+$/);
    // The guest agent hangs up on it and then kills it, which takes a moment.
    for (const limit = Date.now() + 20_000; existsSync(`/proc/${pid}`); await delay(5))
      assert.ok(Date.now() < limit, "it lives on");
    await worker.command("stop", { machine_id: id });
    await worker.state(id, "stopped");
  });
});
