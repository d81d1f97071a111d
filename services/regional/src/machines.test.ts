import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startRegion, type TestRegion } from "./fixture.ts";

let region: TestRegion;
before(async () => {
  region = await startRegion();
  await region.createApp("web");
});
after(async () => region[Symbol.asyncDispose]());

test("a machine is created, read and listed by the unmodified client", async () => {
  const created = await region.fly.Machine.createMachine({
    app_name: "web",
    name: "one",
    config: { image: "app:1" },
  } as never);
  assert.match(created.id, /^[0-9a-f]{14}$/);
  const read = await region.fly.Machine.getMachine({ app_name: "web", machine_id: created.id });
  assert.equal(read.id, created.id);
  assert.equal(read.name, "one");
  const listed = await region.fly.Machine.listMachines("web");
  assert.deepEqual(
    listed.map(({ id }) => id),
    [created.id],
  );
});
