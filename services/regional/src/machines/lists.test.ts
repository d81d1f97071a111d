/** Lists of machines, by every filter that they have. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { HearthClient } from "@hearth/sdk";
import { startRegion, type TestRegion, testToken, until } from "../testing/fixture.ts";

let region: TestRegion;
const ids = new Map<string, string>();
before(async () => {
  region = await startRegion();
  await region.addNode("node2", { region: "far" });
  await region.createApp("web");
  await region.createApp("other");
  const make = async (app: string, name: string, fields: object = {}, config: object = {}) => {
    const body = { name, config: { image: "app:1", ...config }, skip_launch: true, ...fields };
    const { status, json, text } = await region.call("POST", `/v1/apps/${app}/machines`, body);
    assert.equal(status, 200, text);
    ids.set(name, json.id);
  };
  await make("web", "rests", {}, { metadata: { role: "a", "fly.dotted": "x" } });
  await make("web", "runs", { skip_launch: false, region: "local" }, { metadata: { role: "b" } });
  await make("web", "far-away", { region: "far" }, { metadata: { role: "a" } });
  await make("web", "gone");
  await make("other", "elsewhere");
  await region.call("DELETE", `/v1/apps/web/machines/${ids.get("gone")}`);
  const runs = (): string | undefined => region.worker.machines.get(ids.get("runs") ?? "")?.record.state;
  const far = [...ids.values()];
  assert.equal(new Set(far).size, 5);
  await until(() => runs() === "started" || runs() === undefined, "the machine that runs");
  const path = `/v1/apps/web/machines/${ids.get("runs")}/wait?state=started&timeout=10`;
  assert.equal((await region.call("GET", path)).status, 200);
});
after(async () => region[Symbol.asyncDispose]());

interface Listed {
  readonly name: string;
  readonly app_name?: string;
}
const names = (list: readonly Listed[]): string[] => list.map(({ name }) => name).sort();
const listed = async (query: string): Promise<string[]> => {
  const { status, json, text } = await region.call("GET", `/v1/apps/web/machines${query}`);
  assert.equal(status, 200, text);
  return names(json);
};

test("the machines of an app are listed, without those that are destroyed", async () => {
  assert.deepEqual(await listed(""), ["far-away", "rests", "runs"]);
});

const filters: readonly (readonly [query: string, expected: readonly string[]])[] = [
  ["?include_deleted=true", ["far-away", "gone", "rests", "runs"]],
  ["?include_deleted=", ["far-away", "gone", "rests", "runs"]],
  ["?include_deleted=false", ["far-away", "rests", "runs"]],
  ["?state=created", ["far-away", "rests"]],
  ["?state=started,%20created", ["far-away", "rests", "runs"]],
  ["?state=destroyed", ["gone"]],
  ["?state=", ["far-away", "rests", "runs"]],
  ["?region=far", ["far-away"]],
  ["?region=", ["far-away", "rests", "runs"]],
  ["?metadata.role=a", ["far-away", "rests"]],
  ["?metadata.role=a&region=far", ["far-away"]],
  ["?metadata.fly.dotted=x", ["rests"]],
  ["?metadata.role=c", []],
];
for (const [query, expected] of filters)
  test(`the list with ${query}`, async () => assert.deepEqual(await listed(query), expected));

test("a summary leaves out what is long", async () => {
  const { json } = await region.call("GET", "/v1/apps/web/machines?summary=true");
  for (const machine of json) {
    assert.ok(machine.id && machine.state && machine.name);
    for (const field of ["config", "incomplete_config", "events", "checks"])
      assert.equal(field in machine, false);
  }
});

test("the machines of all apps of an organisation come page by page", async () => {
  const client = new HearthClient({ apiUrl: region.url, token: testToken });
  const all = await Array.fromAsync(client.machines.listAll("personal"));
  assert.deepEqual(names(all), ["elsewhere", "far-away", "rests", "runs"]);
  const seen: string[] = [];
  let cursor = "";
  for (let page = 0; page < 10; page += 1) {
    const { json } = await region.call("GET", `/v1/orgs/personal/machines?limit=3&cursor=${cursor}`);
    assert.ok(json.machines.length <= 3);
    seen.push(...names(json.machines));
    cursor = json.next_cursor;
    if (cursor === "") break;
  }
  assert.deepEqual(seen.sort(), ["elsewhere", "far-away", "rests", "runs"]);
  const { json: later } = await region.call("GET", "/v1/orgs/personal/machines?updated_after=2999-01-01");
  assert.deepEqual(later.machines, []);
  const { json: nobody } = await region.call("GET", "/v1/orgs/nobody/machines");
  assert.deepEqual(nobody.machines, []);
  const { json: wrong } = await region.call("GET", "/v1/orgs/personal/machines?updated_after=soon");
  assert.equal(wrong.code, "invalid_argument");
});
