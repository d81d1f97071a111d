/** Waiting over HTTP, as clients of the Machines API do it. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startRegion, type TestRegion } from "../testing/fixture.ts";

let region: TestRegion;
before(async () => {
  region = await startRegion();
  await region.createApp("web");
});
after(async () => region[Symbol.asyncDispose]());

interface Made {
  readonly id: string;
  readonly instance_id: string;
}
async function create(fields: object = {}): Promise<Made> {
  const { json } = await region.call("POST", "/v1/apps/web/machines", {
    config: { image: "app:1" },
    ...fields,
  });
  return json;
}
const wait = (id: string, query: string) => region.call("GET", `/v1/apps/web/machines/${id}/wait?${query}`);

test("a state of this version that was reached before the call counts", async () => {
  const { id, instance_id } = await create();
  assert.equal(
    (await wait(id, "timeout=10")).status,
    200,
    "started is what is waited for when nothing is said",
  );
  await region.call("POST", `/v1/apps/web/machines/${id}/stop`, {});
  for (const version of [`instance_id=${instance_id}`, `version=${instance_id}`, "instance_id=", ""]) {
    const { status, json } = await wait(id, `state=stopped&timeout=10s&${version}`);
    assert.deepEqual([status, json], [200, { ok: true, state: "stopped" }], version);
  }
});

test("who waits for a version that was replaced is told so at once, in the words that clients match on", async () => {
  const first = await create({ skip_launch: true });
  const { json: second } = await region.call("POST", `/v1/apps/web/machines/${first.id}`, {
    config: { image: "app:2" },
  });
  for (const name of ["instance_id", "version"]) {
    const { status, json } = await wait(first.id, `state=stopped&${name}=${first.instance_id}`);
    assert.equal(status, 409, name);
    assert.match(json.message, /currently replaced/);
    assert.equal(json.details.instance_id, second.instance_id);
  }
  assert.equal((await wait(first.id, `state=stopped&instance_id=${second.instance_id}`)).status, 200);
});

test("a wait that is under way ends when its version is replaced", async () => {
  const { id, instance_id } = await create({ skip_launch: true });
  const waiting = wait(id, `state=started&instance_id=${instance_id}&timeout=30`);
  await region.call("POST", `/v1/apps/web/machines/${id}`, { config: { image: "app:2" } });
  const { status, json } = await waiting;
  assert.equal(status, 409);
  assert.match(json.message, /currently replaced/);
});

test("a version that is newer than what is known here is still to come", async () => {
  const { id } = await create({ skip_launch: true });
  const { status, json } = await wait(id, "state=created&instance_id=7ZZZZZZZZZZZZZZZZZZZZZZZZZ&timeout=1");
  assert.equal(status, 408);
  assert.match(
    json.message,
    /^deadline_exceeded: machine failed to reach desired state, created, currently created$/,
  );
});

test("one of several states is enough, and settled is any in which a machine may rest", async () => {
  const { id } = await create({ skip_launch: true });
  const either = await wait(id, "state=stopped&state=created&timeout=5");
  assert.deepEqual([either.status, either.json.state], [200, "created"]);
  assert.equal((await wait(id, "state=settled&timeout=5")).json.state, "created");
});

test("states up to an event do not count", async () => {
  const { id } = await create();
  await wait(id, "state=started&timeout=10");
  const { json: events } = await region.call("GET", `/v1/apps/web/machines/${id}/events`);
  const stale = await wait(id, `state=started&from_event_id=${events[0].id}&timeout=1`);
  assert.equal(stale.status, 408);
  const older = await wait(id, `state=started&from_event_id=${events[1].id}&timeout=5`);
  assert.equal(older.status, 200);
});

test("a machine that is gone is destroyed for who waits for that, and not found for others", async () => {
  const { id, instance_id } = await create({ skip_launch: true });
  await region.call("DELETE", `/v1/apps/web/machines/${id}?force=true`);
  assert.equal((await wait(id, "state=destroyed")).status, 200);
  assert.equal((await wait(id, `state=destroyed&instance_id=${instance_id}`)).status, 200);
  const gone = await wait(id, "state=started&timeout=5");
  assert.deepEqual([gone.status, gone.json.code], [404, "machine_not_found"]);
  assert.match(gone.json.message, /machine not found/);
});

test("a time that is no whole number of seconds from 1 to 60 is refused", async () => {
  const { id } = await create({ skip_launch: true });
  for (const timeout of ["0", "61", "-1", "1.5", "1m", "soon"]) {
    const { status, json } = await wait(id, `state=created&timeout=${timeout}`);
    assert.deepEqual([status, json.code, json.details?.field], [400, "invalid_argument", "timeout"], timeout);
  }
  for (const timeout of ["1", "60", "60s", ""])
    assert.equal((await wait(id, `state=created&timeout=${timeout}`)).status, 200, timeout);
});
