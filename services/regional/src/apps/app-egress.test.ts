/** The egress policy of an app over HTTP, on a real bus. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startRegion, type TestRegion } from "../testing/fixture.ts";

let region: TestRegion;
before(async () => {
  region = await startRegion();
});
after(async () => region[Symbol.asyncDispose]());

const policy = { allowOut: ["*.example.com:443"], allow_internet_access: false };

test("an app is made with a policy, shows it, and is given another and none", async () => {
  const made = await region.call("POST", "/v1/apps", { app_name: "shut", egress: policy });
  assert.equal(made.status, 201);
  assert.deepEqual(made.json.egress, policy);
  assert.deepEqual((await region.call("GET", "/v1/apps/shut")).json.egress, policy);
  const at = "/v1/apps/shut/egress";
  assert.deepEqual((await region.call("GET", at)).json, policy);
  const other = { denyOut: ["all:25"] };
  assert.deepEqual((await region.call("PUT", at, other)).json, other);
  assert.deepEqual((await region.call("GET", at)).json, other);
  assert.deepEqual((await region.call("DELETE", at)).json, {});
  assert.equal((await region.call("GET", "/v1/apps/shut")).json.egress, undefined);
});

test("a bad entry is refused by its name, and the app is not made", async () => {
  const bad = { denyOut: ["example.com"] };
  const made = await region.call("POST", "/v1/apps", { app_name: "bad", egress: bad });
  assert.equal(made.status, 400);
  assert.equal(made.json.details.field, "egress.denyOut.0");
  assert.equal((await region.call("GET", "/v1/apps/bad")).status, 404);
  await region.createApp("good");
  assert.equal((await region.call("PUT", "/v1/apps/good/egress", bad)).status, 400);
  assert.equal((await region.call("PUT", "/v1/apps/nowhere/egress", policy)).json.code, "app_not_found");
});
