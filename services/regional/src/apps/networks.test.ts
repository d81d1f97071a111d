/** Private networks over HTTP, on a real bus. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startRegion, type TestRegion } from "../testing/fixture.ts";

let region: TestRegion;
before(async () => {
  region = await startRegion();
});
after(async () => region[Symbol.asyncDispose]());

const at = "/v1/orgs/personal/networks";
const create = (name: string) => region.call("POST", at, { name });
const appIn = (name: string, network: string) =>
  region.call("POST", "/v1/apps", { app_name: name, org_slug: "personal", network });

test("a network is created once, listed, shown and deleted", async () => {
  assert.equal((await create("blue")).status, 201);
  assert.equal((await create("blue")).json.code, "name_taken");
  assert.equal((await create("no.dots")).status, 400);
  const { json: listed } = await region.call("GET", at);
  assert.ok(listed.networks.some(({ name }: { name: string }) => name === "blue"));
  assert.equal((await region.call("DELETE", `${at}/blue`)).status, 204);
  assert.equal((await region.call("GET", `${at}/blue`)).json.code, "network_not_found");
  assert.equal((await create("blue")).status, 201);
});

test("a network that an app uses is not deleted, and the app's next one is", async () => {
  assert.equal((await appIn("painter", "used")).status, 201);
  const refused = await region.call("DELETE", `${at}/used`);
  assert.equal(refused.status, 409);
  assert.equal(refused.json.code, "network_in_use");
  assert.deepEqual((await region.call("GET", `${at}/used`)).json.apps, ["painter"]);
  assert.equal((await appIn("painter2", "used")).status, 201);
  for (const name of ["painter", "painter2"]) await region.call("DELETE", `/v1/apps/${name}`);
  assert.equal((await region.call("DELETE", `${at}/used`)).status, 204);
});

test("the default network is not deleted", async () => {
  await region.createApp("plain");
  assert.equal((await region.call("DELETE", `${at}/default`)).status, 400);
});

test("a pair is made and ended, both repeatably, and holds its networks", async () => {
  for (const name of ["left", "right"]) await create(name);
  for (const path of [`${at}/left/pairs/right`, `${at}/right/pairs/left`])
    assert.equal((await region.call("PUT", path)).status, 204);
  assert.deepEqual((await region.call("GET", `${at}/right`)).json.paired_with, ["left"]);
  assert.equal((await region.call("DELETE", `${at}/left`)).json.code, "network_in_use");
  assert.equal((await region.call("PUT", `${at}/left/pairs/nowhere`)).json.code, "network_not_found");
  assert.equal((await region.call("PUT", `${at}/left/pairs/left`)).json.code, "invalid_argument");
  for (const _ of [1, 2]) assert.equal((await region.call("DELETE", `${at}/right/pairs/left`)).status, 204);
  assert.equal((await region.call("DELETE", `${at}/left`)).status, 204);
});

test("of a delete and a create at once, no app is left in a network that is gone", async () => {
  for (let round = 0; round < 25; round++) {
    const network = `raced${round}`;
    await create(network);
    const app = `racer${round}`;
    const [made, deleted] = await Promise.all([
      appIn(app, network),
      region.call("DELETE", `${at}/${network}`),
    ]);
    const left = await region.call("GET", `/v1/apps/${app}`);
    assert.equal(left.status, made.status === 201 ? 200 : 404, `app of round ${round}`);
    if (made.status !== 201) continue;
    assert.equal((await region.call("GET", `${at}/${network}`)).status, 200, `network, round ${round}`);
    assert.ok([204, 409].includes(deleted.status), deleted.text);
  }
});
