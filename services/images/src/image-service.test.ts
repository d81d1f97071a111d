import assert from "node:assert/strict";
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { HearthError, type HearthErrorCode } from "@hearth/errors";
import type { NodeImage } from "@hearth/machine";
import { startRegistry } from "@hearth/testkit";
import { doneImage, startNode } from "./bus-fixtures.ts";
import { makeTar, run, scratch } from "./fixtures.ts";
import { makeLayout, push, startGate } from "./registry-fixtures.ts";

const is = (code: HearthErrorCode) => (error: unknown) => error instanceof HearthError && error.code === code;

test("an OCI layout and a docker archive come in over the bus as one image", async () => {
  await using space = await scratch();
  await using node = await startNode(space);
  const layout = await makeLayout(space);
  const ociTar = join(space.path, "oci.tar");
  await run("tar", ["-cf", ociTar, "-C", layout, "."]);
  const saved = join(space.path, "saved.tar");
  await run("skopeo", ["copy", "--insecure-policy", `oci:${layout}:t`, `docker-archive:${saved}:local/a:1`]);
  const one = doneImage(await node.import(ociTar, "demo:latest"));
  const other = doneImage(await node.import(saved, "other:1"));
  assert.equal(one.imageId, other.imageId);
  assert.equal(one.reference, "docker.io/library/demo:latest");
  assert.deepEqual(one.config.entrypoint, ["/c"]);
  const listed = (await node.command("list", {})) as NodeImage[];
  assert.deepEqual(
    listed.map(({ reference }) => reference),
    ["docker.io/library/demo:latest", "docker.io/library/other:1"],
  );
  assert.deepEqual(doneImage(await node.ensure("demo")), one);
  assert.deepEqual(await readdir(join(node.dataDir, "images/work")), []);
});

test("what a holder holds stays, also when the service is killed, until it is released", async () => {
  await using space = await scratch();
  await using node = await startNode(space);
  const ociTar = join(space.path, "oci.tar");
  await run("tar", ["-cf", ociTar, "-C", await makeLayout(space), "."]);
  await node.import(ociTar, "demo");
  await node.ensure("demo", "machine-1");
  await assert.rejects(node.command("remove", { reference: "demo" }), is("image_in_use"));
  await node.stop("SIGKILL");
  await node.start();
  await assert.rejects(node.command("remove", { reference: "demo" }), is("image_in_use"));
  await node.command("release", { holder: "machine-1" });
  await node.command("remove", { reference: "demo" });
  assert.deepEqual(await node.command("list", {}), []);
  assert.equal(await node.stop(), 0);
});

test("a pull with the credentials of registries.json tells how far it is", async () => {
  await using space = await scratch();
  await using registry = await startRegistry(space.path);
  await push(await makeLayout(space), `${registry.host}/team/app:1`);
  const wanted = `Basic ${Buffer.from("ada:pass:word").toString("base64")}`;
  await using gate = await startGate({
    upstream: registry.host,
    intercept: (incoming, outgoing) => {
      if (incoming.headers.authorization === wanted) return false;
      outgoing.writeHead(401, { "WWW-Authenticate": 'Basic realm="test"' }).end();
      return true;
    },
  });
  await using node = await startNode(space);
  const name = `${gate.host}/team/app:1`;
  await assert.rejects(node.ensure(name), is("image_unauthorized"));
  const auth = Buffer.from("ada:pass:word").toString("base64");
  await writeFile(
    join(node.dataDir, "registries.json"),
    JSON.stringify({ auths: { [gate.host]: { auth } } }),
  );
  const messages = await node.ensure(name);
  assert.equal(doneImage(messages).reference, name);
  assert.deepEqual([...new Set(messages.map(({ kind }) => kind))], ["downloading", "merging", "done"]);
  await writeFile(join(node.dataDir, "registries.json"), '{"auths": 7}');
  await assert.rejects(node.ensure(`${gate.host}/team/app:2`), (error: unknown) => {
    assert.ok(error instanceof HearthError && error.code === "invalid_argument");
    return !error.message.includes("7");
  });
});

test("refused: other requests, what is no image, and a sender that goes away leaves nothing", async () => {
  await using space = await scratch();
  await using node = await startNode(space);
  await assert.rejects(node.command("remove", { reference: 7 }), is("invalid_argument"));
  await assert.rejects(node.command("list", { all: true }), is("invalid_argument"));
  await assert.rejects(
    node.import(await space.write("no.tar", "hello"), "no"),
    is("image_format_unsupported"),
  );
  const alien = await makeTar([{ name: "a", content: "a" }]);
  const other = await space.write("other.tar", alien);
  await assert.rejects(node.import(other, "no"), is("image_format_unsupported"));
  const stream = await node.open("import", { reference: "half" });
  await stream.write(alien.subarray(0, 100));
  stream.fail(new HearthError("cancelled"));
  const work = join(node.dataDir, "images/work");
  const limit = AbortSignal.timeout(5_000);
  while ((await readdir(work)).length > 0) {
    limit.throwIfAborted();
    await new Promise((resolve) => setImmediate(resolve));
  }
});
