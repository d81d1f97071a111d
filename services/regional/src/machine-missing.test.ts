/** What an API says of a machine that it does not know: only one that has heard the newest may deny it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { startRegion, until } from "./fixture.ts";

const unknown = "/v1/apps/web/machines/0123456789abcd";

test("an API whose copy of the state is the newest says that a machine does not exist; one that lags says that it does not know", async () => {
  await using region = await startRegion();
  await region.createApp("web");
  await until(() => region.replica.isSettled && region.replica.ageMs < 2_000, "a copy that is the newest");
  const denied = await region.call("GET", unknown);
  assert.deepEqual([denied.status, denied.json.code], [404, "machine_not_found"]);
  await region.bus.close();
  assert.equal(region.replica.isSettled, false);
  for (const [method, path] of [
    ["GET", unknown],
    ["POST", `${unknown}/start`],
    ["DELETE", unknown],
  ] as const) {
    const { status, json } = await region.call(method, path);
    assert.deepEqual([status, json.code], [503, "unavailable"], `${method} ${path}`);
    assert.match(json.message, /try again/);
  }
});

test("an API that lags hides a machine outside of the caller's sight by the same answer", async () => {
  await using region = await startRegion();
  await region.createApp("web");
  const create = async (): Promise<string> => {
    const body = { config: { image: "app:1" }, skip_launch: true };
    const { status, json, text } = await region.call("POST", "/v1/apps/web/machines", body);
    assert.equal(status, 200, text);
    return json.id;
  };
  const [seen, hidden] = [await create(), await create()];
  const scope = { level: "read-only", apps: ["web"], machines: [seen, "0123456789abcd"] };
  const issued = await region.call("POST", "/v1/tokens", scope);
  assert.equal(issued.status, 201, issued.text);
  const look = (id: string) =>
    region.call("GET", `/v1/apps/web/machines/${id}`, undefined, {
      authorization: `Bearer ${issued.json.token}`,
    });
  await until(() => region.replica.isSettled && region.replica.ageMs < 2_000, "a copy that is the newest");
  const answers = async () =>
    (await Promise.all([hidden, "0123456789abcd"].map(look))).map(({ json }) => json.code);
  assert.deepEqual(await answers(), ["machine_not_found", "machine_not_found"]);
  await region.bus.close();
  assert.deepEqual(await answers(), ["unavailable", "unavailable"]);
});
