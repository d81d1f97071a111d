import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { HearthError, type HearthErrorCode } from "@hearth/errors";
import { startRegistry } from "@hearth/testkit";
import { makeTar, run, type Scratch, scratch } from "./fixtures.ts";
import { ImageStore, type ImageStoreOptions } from "./image-store.ts";
import { type GateOptions, makeLayout, push, startGate } from "./registry-fixtures.ts";

const { signal } = new AbortController();
const is = (code: HearthErrorCode) => (error: unknown) => error instanceof HearthError && error.code === code;
const credentials = { username: "hearth", password: "correct:horse" };
const basic = `Basic ${Buffer.from("hearth:correct:horse").toString("base64")}`;

async function startStore(space: Scratch, options: Partial<ImageStoreOptions> = {}): Promise<ImageStore> {
  const store = new ImageStore({ directory: join(space.path, "store"), ...options });
  await store.start();
  return store;
}

const basicGate: GateOptions["intercept"] = (incoming, outgoing) => {
  if (incoming.headers.authorization === basic) return false;
  outgoing.writeHead(401, { "www-authenticate": 'Basic realm="registry"' }).end();
  return true;
};

const bearerGate: GateOptions["intercept"] = (incoming, outgoing, host) => {
  const { url = "", headers } = incoming;
  if (url.startsWith("/token")) {
    const scoped =
      url.includes(`scope=${encodeURIComponent("repository:app:pull")}`) && url.includes("service=here");
    const granted = scoped && headers.authorization === basic;
    outgoing.writeHead(granted ? 200 : 401).end(JSON.stringify({ token: "a-token" }));
    return true;
  }
  if (headers.authorization === "Bearer a-token") return false;
  const challenge = `Bearer realm="http://${host}/token",service="here",scope="repository:app:pull"`;
  outgoing.writeHead(401, { "www-authenticate": challenge }).end();
  return true;
};

for (const [scheme, intercept] of [
  ["basic", basicGate],
  ["bearer", bearerGate],
] as const) {
  test(`${scheme} authentication pulls with the right credentials, and is image_unauthorized without`, async () => {
    await using space = await scratch();
    await using registry = await startRegistry(space.path);
    await push(await makeLayout(space), `${registry.host}/app`);
    await using gate = await startGate({ upstream: registry.host, intercept });
    const stranger = await startStore(space);
    await assert.rejects(stranger.ensure(`${gate.host}/app`, { signal }), is("image_unauthorized"));
    const store = await startStore(space, { registryOptions: () => ({ credentials }) });
    const image = await store.ensure(`${gate.host}/app`, { signal });
    assert.equal(image.config.user, "7:8");
  });
}

test("a download that broke goes on where it stopped", async () => {
  await using space = await scratch();
  await using registry = await startRegistry(space.path);
  const layer = await makeTar([{ name: "noise", content: randomBytes(3_000_000) }]);
  await push(await makeLayout(space, [layer]), `${registry.host}/app`);
  let broken = false;
  const blobChunk = (chunk: Buffer, place: number): Buffer | undefined => {
    if (broken || place < 1_000_000) return chunk;
    broken = true;
    return undefined;
  };
  await using gate = await startGate({ upstream: registry.host, blobChunk });
  const store = await startStore(space);
  await assert.rejects(store.ensure(`${gate.host}/app`, { signal }), is("registry_unavailable"));
  await store.ensure(`${gate.host}/app`, { signal });
  const resumed = gate.seen.filter((line) => line.includes("bytes="));
  assert.equal(resumed.length, 1);
  assert.ok(Number(/bytes=(\d+)-/.exec(resumed[0] ?? "")?.[1]) > 100_000, resumed[0]);
});

test("a blob changed on its way is image_digest_mismatch and leaves nothing", async () => {
  await using space = await scratch();
  await using registry = await startRegistry(space.path);
  await push(await makeLayout(space), `${registry.host}/app`);
  const blobChunk = (chunk: Buffer): Buffer => Buffer.from(chunk.map((byte) => byte ^ 1));
  await using gate = await startGate({ upstream: registry.host, blobChunk });
  const store = await startStore(space);
  await assert.rejects(store.ensure(`${gate.host}/app`, { signal }), is("image_digest_mismatch"));
  for (const left of ["rootfs", "partial", "work", "references"]) {
    assert.deepEqual(await readdir(join(space.path, "store", left)), [], left);
  }
});

test("many who want one image at once cause one download of each part", async () => {
  await using space = await scratch();
  await using registry = await startRegistry(space.path);
  await push(await makeLayout(space), `${registry.host}/app`);
  await using gate = await startGate({ upstream: registry.host });
  const store = await startStore(space);
  const names = ["app", "app:latest", "app", "app"].map((name) => `${gate.host}/${name}`);
  const gone = new AbortController();
  const leaving = store.ensure(`${gate.host}/app`, { signal: gone.signal });
  const staying = names.map((name) => store.ensure(name, { signal }));
  gone.abort(new Error("left"));
  await assert.rejects(leaving, /left/);
  await Promise.all(staying);
  const blobs = gate.seen.filter((line) => line.includes("/blobs/"));
  assert.equal(blobs.length, 3);
  assert.equal(new Set(blobs).size, 3);
});

test("a pull that everybody left stops, and the next one succeeds", async () => {
  await using space = await scratch();
  await using registry = await startRegistry(space.path);
  await push(await makeLayout(space), `${registry.host}/app`);
  const gone = new AbortController();
  const store = await startStore(space);
  const onProgress = (): void => gone.abort(new Error("left"));
  await assert.rejects(store.ensure(`${registry.host}/app`, { signal: gone.signal, onProgress }), /left/);
  assert.deepEqual(await readdir(join(space.path, "store/work")), []);
  await store.ensure(`${registry.host}/app`, { signal });
});

test("an index without this platform is image_platform_missing", async () => {
  await using space = await scratch();
  await using registry = await startRegistry(space.path);
  const layout = await makeLayout(space);
  await push(layout, `${registry.host}/app`);
  const store = await startStore(space, { platform: { os: "linux", architecture: "riscv64" } });
  await assert.rejects(store.ensure(`${registry.host}/app`, { signal }), is("image_platform_missing"));
});

test("a decompression bomb is image_too_large", async () => {
  await using space = await scratch();
  const layer = await makeTar([{ name: "zeros", content: Buffer.alloc(20_000_000) }]);
  const layout = await makeLayout(space, [layer]);
  const store = await startStore(space, { limits: { maxEntries: 100, maxBytes: 1_000_000 } });
  await assert.rejects(store.import(layout, "local/bomb", { signal }), is("image_too_large"));
  assert.deepEqual(await readdir(join(space.path, "store/work")), []);
});

test("a full disk is disk_full and leaves nothing", async (t) => {
  await using space = await scratch();
  const layer = await makeTar([{ name: "noise", content: randomBytes(6_000_000) }]);
  const layout = await makeLayout(space, [layer]);
  const small = join(space.path, "small");
  await run("mkdir", [small]);
  const mounted = await run("mount", ["-t", "tmpfs", "-o", "size=4m", "hearth-test", small]).then(
    () => true,
    () => false,
  );
  if (!mounted) return t.skip("mounting a small file system needs privileges");
  try {
    for (const sizeMib of [4, 9, 15]) {
      await run("mount", ["-o", `remount,size=${sizeMib}m`, small]);
      const store = await startStore(space, { directory: small });
      await assert.rejects(store.import(layout, "local/app", { signal }), is("disk_full"), `${sizeMib} MiB`);
      for (const left of ["rootfs", "partial", "work", "references"]) {
        assert.deepEqual(await readdir(join(small, left)), [], left);
      }
    }
  } finally {
    await run("umount", [small]);
  }
});
