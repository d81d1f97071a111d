/** Images of the nodes, as the SDK asks for them. */
import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { after, before, test } from "node:test";
import { HearthClient } from "@hearth/sdk";
import { startRegion, type TestRegion, testToken } from "../testing/fixture.ts";

let region: TestRegion;
let client: HearthClient;
let second: Awaited<ReturnType<TestRegion["addNode"]>>;
before(async () => {
  region = await startRegion();
  // The first node has more room, so it is the one that is chosen.
  second = await region.addNode("node2", { freeMemoryMb: 512 });
  client = new HearthClient({ apiUrl: region.url, token: testToken });
});
after(async () => region[Symbol.asyncDispose]());

const kinds = (messages: readonly { readonly kind: string }[]) => messages.map(({ kind }) => kind);

test("a pull tells its progress, and nothing is downloaded twice", async () => {
  const first = await Array.fromAsync(client.images.pull("app:pulled"));
  assert.deepEqual(kinds(first), ["downloading", "merging", "done"]);
  const again = await Array.fromAsync(client.images.pull("app:pulled"));
  assert.deepEqual(kinds(again), ["done"]);
  assert.deepEqual(region.images.ensured, ["app:pulled", "app:pulled"]);
});

test("a node can be named, for a pull and an import", async () => {
  const pull = { reference: "app:second", node_id: "node2" };
  const { status, text } = await region.call("POST", "/v1/images/pull", pull);
  assert.equal(status, 200, text);
  assert.deepEqual(second.images.ensured, ["app:second"]);
  const unknown = await region.call("POST", "/v1/images/pull", { ...pull, node_id: "node9" });
  assert.deepEqual([unknown.status, unknown.json.code], [404, "not_found"]);
  const imported = await region.call("POST", "/v1/images/import?reference=app:local&node_id=node2", "tar");
  assert.equal(imported.status, 200);
  assert.equal(second.images.importedBytes, 3);
});

test("an import brings every byte, and more than memory would hold", async () => {
  const total = 128 * 1024 * 1024;
  let sent = 0;
  const archive = Readable.from(
    (function* () {
      for (; sent < total; sent += 64 * 1024) yield Buffer.alloc(64 * 1024);
    })(),
  );
  const before = region.images.importedBytes;
  const messages = await Array.fromAsync(client.images.import("app:imported", archive));
  assert.deepEqual(kinds(messages), ["done"]);
  assert.equal(region.images.importedBytes - before, total);
});

test("what is refused is refused with its reason, also in the middle of an upload", async () => {
  await assert.rejects(Array.fromAsync(client.images.pull("app:missing")), { code: "image_not_found" });
  const endless = Readable.from(
    (function* () {
      for (;;) yield Buffer.alloc(64 * 1024);
    })(),
  );
  await assert.rejects(Array.fromAsync(client.images.import("app:hostile", endless)), {
    code: "image_layer_hostile",
  });
  const nameless = await region.call("POST", "/v1/images/import", "tar");
  assert.deepEqual([nameless.status, nameless.json.details.field], [400, "reference"]);
  const unknown = await region.call("POST", "/v1/images/pull", { reference: "app:1", tag: "1" });
  assert.deepEqual([unknown.status, unknown.json.code], [400, "unknown_field"]);
});

test("the list says which node has what; removing forgets it on all of them", async () => {
  await Array.fromAsync(client.images.pull("app:both"));
  await region.call("POST", "/v1/images/pull", { reference: "app:both", node_id: "node2" });
  const holders = async () => {
    const { json } = await region.call("GET", "/v1/images");
    const both = (json as { reference: string; node_id: string }[]).filter(
      (one) => one.reference === "app:both",
    );
    return both.map(({ node_id }) => node_id).sort();
  };
  assert.deepEqual(await holders(), ["node1", "node2"]);
  await client.images.remove("app:both");
  assert.deepEqual(await holders(), []);
  await assert.rejects(client.images.remove("app:both"), { code: "image_not_found" });
});

test("an image that one node cannot give up is an error, and a node that is silent hides no others", async () => {
  await Array.fromAsync(client.images.pull("app:used"));
  region.images.inUse.add("app:used");
  await assert.rejects(client.images.remove("app:used"), { code: "image_in_use" });
  await second.images.stop();
  const references = (await client.images.list()).map(({ reference }) => reference);
  assert.ok(references.includes("app:used"), references.join());
});
