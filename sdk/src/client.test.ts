import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import { test } from "node:test";
import { HearthClient, startFakeApi, type Target } from "../mod.ts";

const demo = "demo:latest";

async function started(config: object = {}) {
  const api = await startFakeApi();
  const client = new HearthClient(api);
  await client.apps.ensure("web");
  const { id } = await client.machines.create("web", { config: { image: demo, ...config } });
  const target: Target = { app: "web", id };
  return { api, client, target };
}

test("a machine is created, waited for, listed, stopped and destroyed", async () => {
  const { api, client, target } = await started();
  await using _ = api;
  await client.machines.wait(target, { states: ["started"], timeoutMs: 10_000 });
  assert.equal((await client.machines.get(target)).state, "started");
  assert.deepEqual(
    (await client.machines.list("web")).map((machine) => machine.id),
    [target.id],
  );
  await client.machines.stop(target, { signal: "SIGTERM", timeoutSeconds: 3 });
  await client.machines.wait(target, { states: ["stopped"], timeoutMs: 10_000 });
  const stop = api.calls.find((call) => call.path.endsWith("/stop"));
  assert.deepEqual(stop?.body, { signal: "SIGTERM", timeout: "3s" });
  const [newest] = await client.machines.events(target);
  assert.equal(newest?.request?.exit_event?.exit_code, 143);
  await client.machines.destroy(target);
  await client.machines.wait(target, { states: ["destroyed"], timeoutMs: 10_000 });
  assert.deepEqual(await client.machines.list("web"), []);
});

test("an app is ensured by two callers at once", async () => {
  await using api = await startFakeApi();
  const client = new HearthClient(api);
  const apps = await Promise.all(["web", "web", "web"].map((name) => client.apps.ensure(name)));
  assert.deepEqual(new Set(apps.map((app) => app.name)), new Set(["web"]));
});

test("errors keep the code of the server, and say when nothing answers", async () => {
  await using api = await startFakeApi();
  const client = new HearthClient(api);
  await assert.rejects(client.machines.list("none"), { code: "app_not_found" });
  const stranger = new HearthClient({ apiUrl: api.apiUrl, token: "wrong" });
  await assert.rejects(stranger.apps.list(), { code: "unauthenticated" });
  const nowhere = new HearthClient({ apiUrl: "http://127.0.0.1:1" });
  await assert.rejects(nowhere.health(), { code: "unavailable", message: /127\.0\.0\.1:1.*ECONNREFUSED/ });
  assert.throws(() => new HearthClient({ apiUrl: "localhost:4280" }), { code: "invalid_argument" });
});

test("an answer that is not of the API is an error that names the address", async () => {
  const server = createServer((_request, response) => response.end("<html>hello</html>"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  try {
    await assert.rejects(new HearthClient({ apiUrl: `http://127.0.0.1:${port}` }).health(), {
      code: "internal",
      message: /not the Hearth API/,
    });
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

test("a call is cancelled by its signal", async () => {
  const { api, client, target } = await started();
  await using _ = api;
  const signal = AbortSignal.timeout(100);
  const waiting = client.machines.wait({ ...target, signal }, { states: ["destroyed"] });
  await assert.rejects(waiting, { code: "cancelled" });
});

test("metadata is written and read", async () => {
  const { api, client, target } = await started();
  await using _ = api;
  await client.machines.metadata.set(target, "role/1", "web");
  assert.deepEqual(await client.machines.metadata.all(target), { "role/1": "web" });
});

test("logs end with the machine and carry the bytes of both streams exactly", async () => {
  const { api, client, target } = await started({
    init: { cmd: ["sh", "-c", "printf 'a\\377\\000'; sleep 0.1; printf no >&2; exit 3"] },
  });
  await using _ = api;
  const entries = await Array.fromAsync(client.machines.logs(target, { follow: true }));
  const bytes = (stream: string): Buffer =>
    Buffer.concat(
      entries.filter((one) => one.stream === stream).map((one) => Buffer.from(one.data, "base64")),
    );
  assert.deepEqual(bytes("stdout"), Buffer.from([0x61, 0xff, 0]));
  assert.equal(bytes("stderr").toString(), "no");
});

test("a pull reports progress and ends with the image, or with the error of the stream", async () => {
  await using api = await startFakeApi();
  const client = new HearthClient(api);
  const kinds = (await Array.fromAsync(client.images.pull("busybox:1"))).map((message) => message.kind);
  assert.deepEqual(kinds, ["downloading", "merging", "done"]);
  await assert.rejects(Array.fromAsync(client.images.pull("missing:1")), { code: "image_not_found" });
  await assert.rejects(Array.fromAsync(client.images.pull("refused:latest")), { code: "image_unauthorized" });
});

test("an import streams 64 MiB without holding them", async () => {
  await using api = await startFakeApi();
  const client = new HearthClient(api);
  const piece = Buffer.alloc(1024 * 1024);
  async function* archive(): AsyncGenerator<Uint8Array> {
    for (let count = 0; count < 64; count += 1) yield piece;
  }
  const [done] = await Array.fromAsync(client.images.import("big:1", archive()));
  assert.equal(done?.kind === "done" && done.image.sizeBytes, 64 * 1024 * 1024);
  await client.images.remove("big:1");
  await assert.rejects(client.images.remove("big:1"), { code: "image_not_found" });
});

test("files are written, described, listed, renamed, read and removed", async () => {
  const { api, client, target } = await started();
  await using _ = api;
  const { files } = client;
  await files.mkdir(target, "/data/deep", { parents: true });
  await files.write(target, "/data/deep/a", Readable.from([Buffer.from("hello ")]), { mode: 0o750 });
  const { mode, kind, size } = await files.stat(target, "/data/deep/a");
  assert.deepEqual({ mode, kind, size }, { mode: 0o750, kind: "file", size: 6 });
  await files.rename(target, "/data/deep/a", "/data/deep/b c");
  assert.deepEqual(
    (await files.list(target, "/data/deep")).map((one) => one.name),
    ["b c"],
  );
  assert.equal(await text(await files.read(target, "/data/deep/b c")), "hello ");
  await files.write(target, "/data/empty", "");
  assert.equal((await buffer(await files.read(target, "/data/empty"))).length, 0);
  await files.remove(target, "/data", { recursive: true });
  await assert.rejects(files.stat(target, "/data"), { code: "guest_path_not_found" });
  await assert.rejects(files.read(target, "/data"), { code: "guest_path_not_found" });
});
