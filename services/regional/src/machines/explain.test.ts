/** The explanation of a machine comes from the worker that has it. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { HearthError } from "@hearth/errors";
import { HearthClient } from "@hearth/sdk";
import { startRegion, type TestRegion, testToken } from "../testing/fixture.ts";

let region: TestRegion;
let id: string;
before(async () => {
  region = await startRegion();
  await region.createApp("web");
  const body = { config: { image: "app:1" }, skip_launch: true };
  id = (await region.call("POST", "/v1/apps/web/machines", body)).json.id;
});
after(async () => region[Symbol.asyncDispose]());

test("runs are answered as the worker tells them, as many as are asked for", async () => {
  const { status, json } = await region.call("GET", `/v1/apps/web/machines/${id}/explain?limit=3`);
  assert.equal(status, 200);
  assert.deepEqual(region.worker.commands.at(-1), { name: "explain", request: { machine_id: id, limit: 3 } });
  const [run] = json.runs;
  assert.deepEqual([json.machine_id, run.kind, run.error.step], [id, "machine-start", "image"]);
  assert.deepEqual(run.steps[0].name, "image");
  const client = new HearthClient({ apiUrl: region.url, token: testToken });
  assert.deepEqual(await client.machines.explain({ app: "web", id }), json);
  for (const limit of ["0", "21", "x"]) {
    const refused = await region.call("GET", `/v1/apps/web/machines/${id}/explain?limit=${limit}`);
    assert.equal(refused.json.code, "invalid_argument", limit);
  }
});

test("when the worker does not answer, nothing is made up", async () => {
  region.worker.refuse.set("explain", new HearthError("unavailable"));
  const { status, json } = await region.call("GET", `/v1/apps/web/machines/${id}/explain`);
  region.worker.refuse.clear();
  assert.deepEqual([status, json.code, json.details.node_id], [503, "unavailable", "node1"]);
});
