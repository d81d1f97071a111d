/** The worker as a process, with real machines: QEMU, taps, the guest agent as process 1. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readlinkSync, statSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { decodeExecFrame, type Inspection, type LogEntry, type MachineExplanation } from "@hearth/machine";
import { namespacePath } from "@hearth/network";
import { missing, startNode, type TestNode } from "./testing/node-fixture.ts";

async function exec(node: TestNode, id: string, script: string) {
  const command = ["/bin/sh", "-c", script];
  const stream = await node.stream("exec", { machine_id: id, command });
  let stdout = "";
  for await (const message of stream) {
    const frame = decodeExecFrame(message);
    if (frame.channel === "stdout") stdout += Buffer.from(frame.data).toString();
    if (frame.channel === "status") return { stdout, status: frame.status };
  }
  throw new Error("no status");
}

async function logs(node: TestNode, id: string): Promise<LogEntry[]> {
  const entries: LogEntry[] = [];
  for await (const message of await node.stream("logs", { machine_id: id }))
    entries.push(JSON.parse(Buffer.from(message).toString()));
  return entries;
}

/** Of all that a server sends; asked again while nobody listens yet. */
async function digestFrom(host: string, port: number): Promise<string> {
  const limit = Date.now() + 10_000;
  for (;;) {
    const hash = createHash("sha256");
    const socket = connect(port, host);
    try {
      for await (const chunk of socket) hash.update(chunk);
      return hash.digest("hex");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ECONNREFUSED" || Date.now() > limit) throw error;
    }
  }
}

const textOf = (entries: readonly LogEntry[]) =>
  entries.map(({ data }) => Buffer.from(data, "base64").toString()).join("");

const nothingLeft = (node: TestNode) => {
  assert.deepEqual(node.vms(), []);
  assert.deepEqual(node.slotsHeld(), []);
  assert.deepEqual(readdirSync(join(node.config.run_dir, "m")), []);
};

describe("a worker with real machines", { skip: missing(), timeout: 240_000 }, () => {
  test("a machine boots, is reached, survives its worker, stops, starts and goes", async (t) => {
    await using node = await startNode();
    const begun = performance.now();
    const { record } = await node.create({ env: { SIZE: "big" } });
    const { id, private_ip } = record;
    await node.state(id, "started");
    t.diagnostic(`created to started: ${Math.round(performance.now() - begun)} ms`);
    const told = await exec(node, id, "echo $COLOUR $SIZE; hostname; cat /etc/resolv.conf; touch /marker");
    assert.equal(told.stdout, `red big\n${id}\nnameserver fd12:3456:789a::3\n`);
    execFileSync("/bin/busybox", ["ping", "-6", "-c1", "-W5", private_ip], { stdio: "ignore" });
    const [slot = "", ...others] = node.slotsHeld();
    assert.deepEqual(others, []);
    const [vm] = node.vms();
    assert.equal(readlinkSync(`/proc/${vm}/ns/net`), `net:[${statSync(namespacePath(slot)).ino}]`);
    const { stdout } = await exec(node, id, "ip -4 -o addr show eth0");
    const [, privateV4 = ""] = /inet ([0-9.]+)/.exec(stdout) ?? [];
    execFileSync("/bin/busybox", ["ping", "-4", "-c1", "-W5", privateV4], { stdio: "ignore" });
    // Large segments in both forms pass the wire of the slot whole.
    const serve =
      "head -c 8388608 /dev/urandom >/big; (nc -l -p 9000 </big >/dev/null 2>&1 &); sha256sum /big";
    const digest = (await exec(node, id, serve)).stdout.slice(0, 64);
    assert.equal(await digestFrom(privateV4, 9000), digest);
    const { differences } = (await node.command("inspect", {})) as Inspection;
    assert.deepEqual(differences, []);

    await node.end("SIGKILL");
    assert.deepEqual(node.vms(), [vm]);
    await node.start();
    assert.equal((await exec(node, id, "ls /marker")).stdout, "/marker\n");
    assert.deepEqual(node.vms(), [vm], "the same virtual machine");
    assert.equal(textOf(await logs(node, id)), "up\n");

    await node.command("stop", { machine_id: id });
    const stopped = await node.state(id, "stopped");
    assert.equal(stopped.events[0]?.request?.exit_event?.exit_code, 9, "the program ended in its own way");
    nothingLeft(node);

    await node.command("start", { machine_id: id });
    await node.state(id, "started");
    assert.equal((await exec(node, id, "ls /marker")).status.kind, "exited");
    assert.equal((await exec(node, id, "ls /marker")).stdout, "", "the disk is new");
    await node.command("destroy", { machine_id: id, force: true });
    await node.state(id, "destroyed");
    nothingLeft(node);
    assert.equal(await node.end("SIGTERM"), 0);
  });

  test("what a program says while its worker is dead is in its log afterwards, with nothing missing", async () => {
    await using node = await startNode();
    const script = "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.05; done";
    const { record } = await node.create({ init: { exec: ["/bin/sh", "-c", script] } });
    await node.state(record.id, "started");
    const numbers = async () =>
      [...textOf(await logs(node, record.id)).matchAll(/line (\d+)/g)].map(([, number]) => Number(number));
    const until = async (count: number) => {
      for (;;) {
        const seen = await numbers();
        if (seen.length > count) return seen;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    };
    const before = await until(3);
    await node.end("SIGKILL");
    await node.start();
    // The next worker needs longer to start than the program for many lines.
    const after = await until(before.length + 5);
    assert.deepEqual(
      after,
      after.map((_, index) => index),
    );
  });

  test("a worker that is killed in the middle of a boot leaves one machine, not two and not none", async () => {
    await using node = await startNode();
    const { record } = await node.create();
    while (node.vms().length === 0) await new Promise((resolve) => setImmediate(resolve));
    await node.end("SIGKILL");
    await node.start();
    await node.state(record.id, "started");
    assert.equal(node.vms().length, 1);
    assert.equal(node.slotsHeld().length, 1);
    await node.end("SIGTERM");
    assert.equal(node.vms().length, 1, "a worker that stops leaves its machines running");
    await node.start();
    await node.command("stop-all", { timeout_ms: 2_000 });
    nothingLeft(node);
    assert.deepEqual(node.slots(), [], "nor of the pool");
    await node.end("SIGTERM");
    await node.start();
    await node.state(record.id, "started");
    await node.command("destroy", { machine_id: record.id, force: true });
    await node.state(record.id, "destroyed");
    nothingLeft(node);
  });

  test("a program that is not there fails the machine and leaves nothing", async () => {
    await using node = await startNode();
    const { record } = await node.create({ init: { exec: ["/no/such"] } });
    const failed = await node.state(record.id, "failed");
    const error = failed.events[0]?.request?.error;
    assert.equal(error?.code, "entrypoint_not_found");
    assert.ok((error?.console_tail ?? "").length > 0, "what its kernel said last is with the failure");
    nothingLeft(node);
    const told = (await node.command("explain", { machine_id: record.id })) as MachineExplanation;
    const [start] = told.runs;
    assert.deepEqual([start?.state, start?.error?.step], ["failed", "process-start"]);
    const steps = ["image", "scratch-disk", "network-slot", "vmm", "guest-ready", "process-start"];
    assert.deepEqual(start?.steps.map(({ name }) => name).sort(), [...steps].sort());
    const ready = start?.steps.find(({ name }) => name === "guest-ready");
    assert.ok((ready?.duration_ms ?? 0) > 0 && ready?.ended_at !== null);
  });
});
