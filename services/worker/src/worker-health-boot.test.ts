/** Checks of a machine, and how its programs end, on real machines: their kernel, their network, their memory. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ExitEvent, MachineCheck, MachineRecord } from "@hearth/machine";
import { missing, startNode, type TestNode } from "./testing/node-fixture.ts";

const sh = (script: string) => ({ init: { exec: ["/bin/sh", "-c", script] } });
const guest = { cpus: 1, memory_mb: 128 };
const status = ({ name, status: now }: MachineCheck) => `${name}:${now}`;
const exitOf = ({ events }: MachineRecord): ExitEvent | undefined =>
  events.find(({ type }) => type === "exit")?.request?.exit_event;

async function endOf(node: TestNode, script: string): Promise<ExitEvent | undefined> {
  const { record } = await node.create({ ...sh(script), guest, restart: { policy: "no" } });
  const exit = exitOf(await node.state(record.id, "stopped"));
  await node.command("destroy", { machine_id: record.id });
  return exit;
}

describe("a real machine", { skip: missing(), timeout: 240_000 }, () => {
  test("is checked over its private address and through its agent, also by the next worker", async () => {
    await using node = await startNode();
    const serve = "/bin/busybox mkdir -p /www; echo fine > /www/up; /bin/busybox httpd -f -p 8080 -h /www";
    const times = { interval: "1s", timeout: "5s", grace_period: "0s" };
    const checks = {
      job: { type: "exec", command: ["/bin/cat", "/www/up"], ...times },
      page: { type: "http", port: 8080, path: "/up", ...times },
      port: { type: "tcp", port: 8080, ...times },
      shut: { type: "tcp", port: 8081, ...times },
    };
    const { id } = (await node.create({ ...sh(serve), guest, checks })).record;
    const shown = (wanted: string) =>
      node.until(id, ({ record }) => record.checks.map(status).join() === wanted);
    const up = await shown("job:passing,page:passing,port:passing,shut:critical");
    assert.deepEqual(
      up.checks.map(({ output }) => output),
      ["fine", "200 OK", "connected to port 8080", "connection refused"],
    );
    await node.end("SIGKILL");
    await node.start();
    const command = ["/bin/busybox", "rm", "/www/up"];
    for await (const _ of await node.stream("exec", { machine_id: id, command }));
    await shown("job:critical,page:critical,port:passing,shut:critical");
    await node.command("destroy", { machine_id: id, force: true });
    await node.state(id, "destroyed");
  });

  test("tells a program that its kernel killed for want of memory from one that was killed", async () => {
    await using node = await startNode();
    const starved = await endOf(node, "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done");
    assert.deepEqual([starved?.exit_code, starved?.guest_signal, starved?.oom_killed], [137, 9, true]);
    const killed = await endOf(node, "kill -9 $$");
    assert.deepEqual([killed?.exit_code, killed?.guest_signal, killed?.oom_killed], [137, 9, false]);
  });

  test("does not lay what it killed for another program to the charge of its own", async () => {
    await using node = await startNode();
    const wait = "while ! [ -e /go ]; do sleep 0.1; done; kill -9 $$";
    const { id } = (await node.create({ ...sh(wait), guest, restart: { policy: "no" } })).record;
    await node.state(id, "started");
    const eat = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done";
    for (const script of [eat, "touch /go"]) {
      const command = ["/bin/sh", "-c", script];
      for await (const _ of await node.stream("exec", { machine_id: id, command }));
    }
    const exit = exitOf(await node.state(id, "stopped"));
    assert.deepEqual([exit?.guest_signal, exit?.oom_killed], [9, false]);
    await node.command("destroy", { machine_id: id });
    await node.state(id, "destroyed");
  });
});
