/**
 * What a user may get wrong, on a platform whose disk is small: each mistake gets a code, a sentence and a status,
 * and leaves nothing on the host.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import {
  demoImage as image,
  importDemo,
  type Json,
  type Platform,
  type Registry,
  startPlatform,
  startRegistry,
  until,
} from "@hearth/testkit";

const path = "/v1/apps/bad/machines";
/** That a worker has beside those of machines. */
const readySlots = 2;
const keptLimitMs = 20_000;
/** The password is "right". */
const htpasswd = "user:$2b$04$pFjgun82tg4qWcvAkXVim.9I07NDTbRicYB7euvr5ry7ZRAr9AYGC\n";

let platform: Platform;
let registry: Registry;
let directory: string;

const shell = (program: string, ...args: string[]) => execFileSync(program, args, { stdio: "pipe" });

/** Pushes an image of one file to the registry, with a real tool. */
function push(name: string, bytes: Buffer, architecture = "amd64"): string {
  const work = mkdtempSync(join(directory, "image-"));
  const layout = join(work, "oci");
  mkdirSync(join(work, "tree"));
  writeFileSync(join(work, "tree/data"), bytes);
  shell("tar", "-cf", join(work, "layer.tar"), "-C", join(work, "tree"), "data");
  shell("umoci", "init", "--layout", layout);
  shell("umoci", "new", "--image", `${layout}:t`);
  shell("umoci", "raw", "add-layer", "--image", `${layout}:t`, join(work, "layer.tar"));
  shell("umoci", "config", "--image", `${layout}:t`, "--architecture", architecture, "--config.cmd", "/data");
  const to = `docker://${registry.host}/${name}`;
  const credentials = ["--dest-creds", "user:right", "--dest-tls-verify=false"];
  shell("skopeo", "copy", "--insecure-policy", ...credentials, `oci:${layout}:t`, to);
  rmSync(work, { recursive: true });
  return `${registry.host}/${name}`;
}

function logIn(password: string): void {
  const auth = Buffer.from(`user:${password}`).toString("base64");
  writeFileSync(
    join(platform.dataDir, "registries.json"),
    JSON.stringify({ auths: { [registry.host]: { auth } } }),
  );
}

/**
 * What the platform has on the host. Network slots are made ahead, each with a name of its own, so they count and are
 * not named; the programs that are kept running to make them end by themselves.
 */
const onHost = (): string[] =>
  platform
    .hostResources()
    .filter((line) => !/^(nft -i|ip -o -force -batch -)/.test(line))
    .map((line) => line.replace(/^\d+: (hth[0-9a-f]+).*/, "slot's link").replace(/^hth[0-9a-f]+.*/, "slot"))
    .sort();

/** Not while slots are made or taken away: one has its namespace for a moment before it has its link. */
const atRest = (): Promise<string[]> =>
  until("the slots are ready", keptLimitMs, async () => {
    const found = onHost();
    const count = (kind: string) => found.filter((line) => line === kind).length;
    return count("slot") === readySlots && count("slot's link") === readySlots ? found : undefined;
  });

/** Another slot may be on its way in place of one that was used. */
async function keepsNothing(held: readonly string[]): Promise<void> {
  await until("nothing is kept", keptLimitMs, async () =>
    isDeepStrictEqual(onHost(), held) ? true : undefined,
  ).catch(() => assert.deepEqual(onHost(), held));
}

/** All files of the images' store, for one that leaves nothing half-made. */
const stored = (): string[] =>
  readdirSync(join(platform.dataDir, "images"), { recursive: true, encoding: "utf8" })
    .filter((name) => !/\.(db|db-wal|db-shm)$/.test(name))
    .sort();

const create = (config: Json, more: Json = {}) =>
  platform.call("POST", path, { config: { image, ...config }, ...more });

async function refused(body: unknown, status: number, code: string): Promise<Json> {
  const [held, files] = [await atRest(), stored()];
  const answer = await platform.call("POST", path, body);
  assert.equal(answer.status, status, JSON.stringify(answer.body));
  assert.equal(answer.body.code, code);
  assert.ok(answer.body.error.length > 10, "a sentence");
  assert.deepEqual((await platform.call("GET", path)).body, []);
  await keepsNothing(held);
  assert.deepEqual(stored(), files);
  return answer.body;
}

describe("bad input", { timeout: 300_000 }, () => {
  before(async () => {
    directory = mkdtempSync(join(tmpdir(), "hearth-bad-"));
    registry = await startRegistry(directory, htpasswd);
    platform = await startPlatform({ dataMib: 160 });
    await importDemo(platform);
    await platform.call("POST", "/v1/apps", { app_name: "bad", org_slug: "personal" });
  });

  after(async () => {
    try {
      const down = await platform?.down();
      assert.equal(down?.code, 0, down?.stderr);
    } finally {
      await registry?.[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true, force: true });
    }
  });

  test("JSON that is none", async () => {
    await refused("{", 400, "malformed_json");
  });

  test("a field of the wrong type, and one that nobody knows, are named", async () => {
    assert.match((await refused({ config: { image: 7 } }, 400, "invalid_argument")).error, /image/);
    assert.match((await refused({ config: { image, colour: "red" } }, 400, "unknown_field")).error, /colour/);
  });

  test("sizes that are absurd, or too small to boot", async () => {
    const guest = (memory_mb: number, cpus = 1) => ({ config: { image, guest: { memory_mb, cpus } } });
    await refused(guest(999_999_999), 409, "insufficient_capacity");
    await refused(guest(256, 100_000), 400, "invalid_argument");
    await refused(guest(-1), 422, "machine_memory_too_small");
    await refused(guest(8), 422, "machine_memory_too_small");
  });

  test("an image that no registry has, or whose registry does not answer", async () => {
    logIn("right");
    await refused({ config: { image: `${registry.host}/none:1` } }, 404, "image_not_found");
    await refused({ config: { image: "127.0.0.1:1/none:1" } }, 502, "registry_unavailable");
    await refused({ config: { image: "No Image" } }, 400, "image_reference_invalid");
  });

  test("wrong credentials, and none", async () => {
    const private_ = push("private:1", Buffer.from("x"));
    logIn("wrong");
    await refused({ config: { image: private_ } }, 422, "image_unauthorized");
    rmSync(join(platform.dataDir, "registries.json"));
    await refused({ config: { image: private_ } }, 422, "image_unauthorized");
  });

  test("an image for another architecture", async () => {
    logIn("right");
    const arm = push("arm:1", Buffer.from("x"), "arm64");
    await refused({ config: { image: arm } }, 422, "image_platform_missing");
  });

  test("an image for which the disk has no room is refused before it is downloaded", async () => {
    logIn("right");
    const large = push("large:1", randomBytes(200 << 20));
    await refused({ config: { image: large } }, 507, "disk_full");
  });

  test("a disk that is full while an image is unpacked fails the machine, and the node goes on", async () => {
    logIn("right");
    const [held, files] = [await atRest(), stored()];
    const fits = push("fits:1", randomBytes(90 << 20));
    const { status, body } = await create({ image: fits });
    assert.equal(status, 200, JSON.stringify(body));
    const failed = await settled(body.id);
    assert.equal(failed.state, "failed");
    assert.match(JSON.stringify(failed.events), /disk_full/);
    await gone(body.id);
    await keepsNothing(held);
    assert.deepEqual(stored(), files);
    // Until the node has looked at its disk again, it takes nothing.
    const next = await until("the node takes work", keptLimitMs, async () => {
      const answer = await create({});
      return answer.body.code === "insufficient_capacity" ? undefined : answer;
    });
    assert.equal(next.status, 200, JSON.stringify(next.body));
    await gone(next.body.id);
  });

  test("a name that is taken", async () => {
    const first = await create({}, { name: "one", skip_launch: true });
    const second = await create({}, { name: "one" });
    assert.equal(second.status, 422);
    assert.equal(second.body.code, "name_taken");
    assert.equal(second.body.status, "name_taken", "which known clients look at");
    await gone(first.body.id);
  });

  test("a program that is not there fails the machine with a reason and keeps nothing", async () => {
    const held = await atRest();
    const { body } = await create({ init: { exec: ["/no/such/program"] }, restart: { policy: "no" } });
    const failed = await settled(body.id);
    assert.equal(failed.state, "failed");
    assert.match(JSON.stringify(failed.events), /entrypoint_not_found/);
    await keepsNothing(held);
    await gone(body.id);
  });

  test("a program that ends at once stops the machine with its exit code and keeps nothing", async () => {
    const held = await atRest();
    const { body } = await create({ init: { exec: ["sh", "-c", "exit 3"] }, restart: { policy: "no" } });
    const stopped = await settled(body.id);
    assert.equal(stopped.state, "stopped");
    const exit = stopped.events.find((event: Json) => event.type === "exit");
    assert.equal(exit.request.exit_event.exit_code, 3);
    await keepsNothing(held);
    await gone(body.id);
  });

  test("a known field that has no effect is accepted and named", async () => {
    const { status, body } = await create({ statics: [{}] }, { skip_launch: true });
    assert.equal(status, 200);
    assert.ok(
      body.warnings.some(({ field }: Json) => field === "config.statics"),
      JSON.stringify(body.warnings),
    );
    await gone(body.id);
  });
});

async function settled(id: string): Promise<Json> {
  for (const limit = AbortSignal.timeout(60_000); ; limit.throwIfAborted()) {
    const waited = await platform.call("GET", `${path}/${id}/wait?state=settled&timeout=30`);
    assert.equal(waited.status, 200, JSON.stringify(waited.body));
    const { body } = await platform.call("GET", `${path}/${id}`);
    if (!["created", "started"].includes(body.state)) return body;
  }
}

async function gone(id: string): Promise<void> {
  const destroyed = await platform.call("DELETE", `${path}/${id}?force=true`);
  assert.equal(destroyed.status, 200, JSON.stringify(destroyed.body));
  assert.equal((await platform.call("GET", `${path}/${id}/wait?state=destroyed&timeout=60`)).status, 200);
}
