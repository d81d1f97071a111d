/** A create that is retried makes one machine. */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { HearthError } from "@hearth/errors";
import { startRegion, type TestRegion } from "../testing/fixture.ts";

const day = 24 * 3600_000;
let skewMs = 0;
let region: TestRegion;
before(async () => {
  region = await startRegion({ skewMs: () => skewMs });
  await region.createApp("web");
  await region.createApp("other");
});
after(async () => region[Symbol.asyncDispose]());
beforeEach(() => void region.worker.commands.splice(0));

const body = { config: { image: "app:1" }, skip_launch: true };
const create = (key: string, fields: object = {}, app = "web") =>
  region.call("POST", `/v1/apps/${app}/machines`, { ...body, ...fields }, { "idempotency-key": key });
const commits = (): number => region.worker.commands.filter(({ name }) => name === "commit").length;

test("the same key with the same body is the same machine", async () => {
  const first = await create("a");
  const second = await create("a");
  assert.deepEqual([first.status, second.status], [200, 200]);
  assert.equal(second.json.id, first.json.id);
  assert.equal(second.json.name, first.json.name);
  assert.equal(commits(), 1);
});

test("requests at the same time with one key make one machine", async () => {
  const answers = await Promise.all(Array.from({ length: 6 }, () => create("b")));
  const made = answers.filter(({ status }) => status === 200);
  assert.ok(made.length >= 1);
  assert.equal(new Set(made.map(({ json }) => json.id)).size, 1);
  for (const { status, json } of answers) if (status !== 200) assert.equal(json.code, "conflict");
  assert.equal(commits(), 1);
  assert.equal((await create("b")).json.id, made[0]?.json.id);
});

test("the same key with another body is a conflict", async () => {
  await create("c");
  const { status, json } = await create("c", { name: "another" });
  assert.deepEqual([status, json.code, json.details.field], [409, "conflict", "idempotency-key"]);
  assert.equal(commits(), 1);
});

test("a key counts within its app, and none makes a machine each time", async () => {
  const [web, other] = [await create("d"), await create("d", {}, "other")];
  assert.notEqual(web.json.id, other.json.id);
  const plain = () => region.call("POST", "/v1/apps/web/machines", body);
  assert.notEqual((await plain()).json.id, (await plain()).json.id);
});

test("a create that failed for certain gives its key back", async () => {
  region.worker.refuse.set("reserve", new HearthError("insufficient_capacity"));
  const refused = await create("e");
  assert.deepEqual([refused.status, refused.json.status], [409, "insufficient_capacity"]);
  region.worker.refuse.clear();
  const { status } = await create("e", { name: "with-another-body" });
  assert.equal(status, 200);
});

test("a key that is a day old is free again", async () => {
  const first = await create("f");
  skewMs = day + 1000;
  // The nodes of the test speak by the clock of the host, so they are heard of again in the shifted time.
  await region.worker.publishNode({ published_at_ms: Date.now() + skewMs });
  const second = await create("f");
  skewMs = 0;
  assert.equal(second.status, 200, second.text);
  assert.notEqual(second.json.id, first.json.id);
});

test("a key of no characters, or of too many, is refused by name", async () => {
  for (const key of ["", "k".repeat(256)]) {
    const { status, json } = await create(key);
    assert.deepEqual([status, json.details.field], [400, "idempotency-key"]);
  }
});
