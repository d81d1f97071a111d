import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { HearthError, type HearthErrorCode } from "@hearth/errors";
import { startRegistry } from "@hearth/testkit";
import { run, type Scratch, scratch } from "./fixtures.ts";
import { ImageStore } from "./image-store.ts";
import { makeLayout } from "./registry-fixtures.ts";

const { signal } = new AbortController();
const is = (code: HearthErrorCode) => (error: unknown) => error instanceof HearthError && error.code === code;

async function startStore(space: Scratch): Promise<ImageStore> {
  const store = new ImageStore({ directory: join(space.path, "store") });
  await store.start();
  return store;
}

test("an image of a registry is pulled once, merged and kept", async () => {
  await using space = await scratch();
  await using registry = await startRegistry(space.path);
  const layout = await makeLayout(space);
  const name = `${registry.host}/team/app:1`;
  await run("skopeo", [
    "copy",
    "--insecure-policy",
    "--dest-tls-verify=false",
    `oci:${layout}:t`,
    `docker://${name}`,
  ]);
  const store = await startStore(space);
  const phases = new Set<string>();
  const onProgress = (progress: { phase: string }) => phases.add(progress.phase);
  const [image, twin] = await Promise.all([
    store.ensure(name, { signal, onProgress }),
    store.ensure(name, { signal }),
  ]);
  assert.deepEqual(image, twin);
  assert.deepEqual([...phases], ["downloading", "merging"]);
  assert.deepEqual(image.config.entrypoint, ["/c"]);
  assert.equal(image.config.user, "7:8");
  assert.equal(image.config.workdir, "/w");
  assert.deepEqual(image.config.labels, { k: "v" });
  const { stdout } = await run("unsquashfs", ["-l", image.rootfsPath]);
  assert.deepEqual(stdout.trim().split("\n"), ["squashfs-root", "squashfs-root/b", "squashfs-root/c"]);
  const pinned = await store.ensure(`${registry.host}/team/app@${image.digest}`, { signal });
  assert.equal(pinned.imageId, image.imageId);
  await assert.rejects(store.ensure(`${registry.host}/team/none:1`, { signal }), is("image_not_found"));
});

test("an image in use is not removed, and a removed one is gone", async () => {
  await using space = await scratch();
  const store = await startStore(space);
  const image = await store.import(await makeLayout(space), "local/app:1", { signal });
  store.retain(image.imageId, "machine-1");
  await assert.rejects(store.remove("local/app:1"), is("image_in_use"));
  store.release(image.imageId, "machine-1");
  assert.equal((await store.list()).length, 1);
  await store.remove("local/app:1");
  assert.deepEqual(await store.list(), []);
  await assert.rejects(store.remove("local/app:1"), is("image_not_found"));
});

test("a registry that is not there is registry_unavailable", async () => {
  await using space = await scratch();
  const store = await startStore(space);
  await assert.rejects(store.ensure("127.0.0.1:1/app", { signal }), is("registry_unavailable"));
});

test("a docker archive, an OCI layout and a registry give the same image id", async () => {
  await using space = await scratch();
  await using registry = await startRegistry(space.path);
  const layout = await makeLayout(space);
  const archive = join(space.path, "saved.tar");
  const policy = "--insecure-policy";
  await run("skopeo", ["copy", policy, `oci:${layout}:t`, `docker-archive:${archive}:local/app:1`]);
  const name = `${registry.host}/app`;
  const format = ["--format", "v2s2", "--dest-tls-verify=false"];
  await run("skopeo", ["copy", policy, ...format, `oci:${layout}:t`, `docker://${name}`]);
  const store = await startStore(space);
  const images = [
    await store.import(archive, "local/archive", { signal }),
    await store.import(layout, "local/layout", { signal }),
    await store.ensure(name, { signal }),
  ];
  assert.equal(new Set(images.map((image) => image.imageId)).size, 1);
  assert.equal(new Set(images.map((image) => JSON.stringify(image.config))).size, 1);
  // The shared rootfs goes with its last name.
  await store.remove("local/archive");
  await store.remove("local/layout");
  assert.deepEqual(await readdir(join(space.path, "store/rootfs")), [`${images[0]?.imageId}.squashfs`]);
  await store.remove(name);
  for (const left of ["rootfs", "partial", "work", "references"]) {
    assert.deepEqual(await readdir(join(space.path, "store", left)), [], left);
  }
});
