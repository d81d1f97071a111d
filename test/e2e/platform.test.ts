/** "First light": the promises of the README, kept on a platform of this host's own. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  demoImage as image,
  importDemo,
  type Json,
  type Platform,
  startPlatform,
  until,
} from "@hearth/testkit";

let platform: Platform;

async function createMachine(app: string, config: Json, extra: Json = {}): Promise<Json> {
  const { status, body } = await platform.call("POST", `/v1/apps/${app}/machines`, {
    config: { image, ...config },
    ...extra,
  });
  assert.equal(status, 200, JSON.stringify(body));
  return body;
}

const wait = (app: string, id: string, state: string) =>
  platform.call("GET", `/v1/apps/${app}/machines/${id}/wait?state=${state}&timeout=60`);

const page = (address: string) =>
  fetch(`http://[${address}]:8080/`, { signal: AbortSignal.timeout(5000) }).then((answer) => answer.text());

describe("first light", { timeout: 600_000 }, () => {
  before(async () => {
    platform = await startPlatform();
    await importDemo(platform);
    await platform.call("POST", "/v1/apps", { app_name: "e2e", org_slug: "personal" });
  });

  after(async () => {
    const down = await platform?.down();
    assert.equal(down?.code, 0, down?.stderr);
  });

  test("hearth run prints what the program prints and ends as it ends", async () => {
    const run = await platform.hearth([
      "run",
      "--rm",
      image,
      "--",
      "sh",
      "-c",
      "echo hi; echo no >&2; exit 7",
    ]);
    assert.deepEqual(run, { code: 7, stdout: "hi\n", stderr: "no\n" });
  });

  test("ten machines answer while the worker is dead, and the next worker adopts them", async () => {
    const machines = await Promise.all(Array.from({ length: 10 }, () => createMachine("e2e", {})));
    for (const { id } of machines) assert.equal((await wait("e2e", id, "started")).status, 200, id);
    const records = await Promise.all(
      machines.map(async ({ id }) => (await platform.call("GET", `/v1/apps/e2e/machines/${id}`)).body),
    );
    // A machine is started when its program runs; the program listens a moment later.
    for (const { private_ip } of records)
      await until("a page", 20_000, () => page(private_ip).catch(() => undefined));
    const vms = () => platform.pids("qemu-system");
    const running = vms().length;

    const [worker] = platform.pids("services/worker");
    assert.ok(worker !== undefined && worker > 1);
    process.kill(worker, "SIGKILL");
    for (const { private_ip } of records) assert.match(await page(private_ip), /Hearth/);
    await until("a worker that execs", 30_000, async () => {
      const id = records[0].id;
      const answer = await platform.call("POST", `/v1/apps/e2e/machines/${id}/exec`, { command: ["true"] });
      return answer.status === 200 ? answer : undefined;
    });
    for (const { id, instance_id } of records) {
      const exec = await platform.call("POST", `/v1/apps/e2e/machines/${id}/exec`, {
        command: ["sh", "-c", "echo $FLY_MACHINE_ID"],
      });
      assert.equal(exec.body.stdout, `${id}\n`);
      const { body } = await platform.call("GET", `/v1/apps/e2e/machines/${id}`);
      assert.equal(body.state, "started");
      assert.equal(body.instance_id, instance_id, "an adopted machine is the same instance");
    }
    assert.equal(vms().length, running, "the same virtual machines");
    const doctor = await platform.hearth(["doctor", "--deep", "--json"]);
    const { inspections } = JSON.parse(doctor.stdout);
    assert.deepEqual(inspections[0].differences, [], "the record and the host agree");
    assert.ok(inspections[0].machines >= 10);
    for (const { id } of records) {
      assert.equal((await platform.call("DELETE", `/v1/apps/e2e/machines/${id}?force=true`)).status, 200);
    }
    for (const { id } of records) assert.equal((await wait("e2e", id, "destroyed")).status, 200);
    await until("no virtual machine", 20_000, async () => (vms().length === 0 ? true : undefined));
  });

  test("stop, start, update and restart keep the id, and the file system is fresh", async () => {
    const { id } = await createMachine("e2e", {}, { name: "kept" });
    await wait("e2e", id, "started");
    const path = `/v1/apps/e2e/machines/${id}`;
    const touch = await platform.call("POST", `${path}/exec`, { command: ["touch", "/marker"] });
    assert.equal(touch.body.exit_code, 0);
    assert.equal((await platform.call("POST", `${path}/stop`, {})).status, 200);
    assert.equal((await wait("e2e", id, "stopped")).status, 200);
    assert.equal((await platform.call("POST", `${path}/start`)).status, 200);
    assert.equal((await wait("e2e", id, "started")).status, 200);
    const look = await platform.call("POST", `${path}/exec`, { command: ["test", "-e", "/marker"] });
    assert.equal(look.body.exit_code, 1);
    const old = (await platform.call("GET", path)).body.instance_id;
    const update = await platform.call("POST", path, { config: { image, env: { COLOUR: "green" } } });
    assert.equal(update.status, 200, JSON.stringify(update.body));
    assert.equal((await wait("e2e", id, "started")).status, 200);
    assert.notEqual((await platform.call("GET", path)).body.instance_id, old);
    const colour = await platform.call("POST", `${path}/exec`, { command: ["sh", "-c", "echo $COLOUR"] });
    assert.equal(colour.body.stdout, "green\n", JSON.stringify(colour.body));
    await platform.call("DELETE", `${path}?force=true`);
    assert.equal((await wait("e2e", id, "destroyed")).status, 200);
  });
});
