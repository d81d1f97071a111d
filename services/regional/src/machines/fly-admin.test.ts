/** The unmodified fly-admin 1.6.1 drives every call that it has and Hearth serves. */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { startRegion, type TestRegion, until } from "../testing/fixture.ts";

let region: TestRegion;
/** Names of the client's calls that were made. */
const driven = new Set<string>();
before(async () => {
  region = await startRegion();
  for (const [group, methods] of Object.entries(region.fly)) {
    if (typeof methods !== "object") continue;
    const recorded = new Proxy(methods, {
      get(target, name, receiver) {
        const value: unknown = Reflect.get(target, name, receiver);
        if (typeof value === "function") driven.add(`${group}.${String(name)}`);
        return value;
      },
    });
    Object.assign(region.fly, { [group]: recorded });
  }
  await region.createApp("web");
});
after(async () => region[Symbol.asyncDispose]());
beforeEach(() => void region.worker.commands.splice(0));

const app_name = "web";
const create = (fields: object = {}) =>
  region.fly.Machine.createMachine({ app_name, config: { image: "app:1" }, ...fields } as never);
const last = () => region.worker.commands.at(-1);

test("apps: create, get, list, delete", async () => {
  await region.fly.App.createApp({ org_slug: "personal", app_name: "short" });
  const app = await region.fly.App.getApp("short");
  assert.equal(app.name, "short");
  assert.equal(app.status, "pending");
  assert.equal(app.organization.slug, "personal");
  const { total_apps, apps } = await region.fly.App.listApps("personal");
  assert.equal(total_apps, 2);
  assert.deepEqual(apps.map(({ name }) => name).sort(), ["short", "web"]);
  await region.fly.App.deleteApp("short");
  await assert.rejects(region.fly.App.getApp("short"), /^Error: 404: .*Could not find App \\"short\\"/);
});

test("a name of an app that is taken is said in the words that clients match", async () => {
  await assert.rejects(
    region.fly.App.createApp({ org_slug: "personal", app_name: "web" }),
    /^Error: 422: .*Name has already been taken/,
  );
});

test("a machine is there for reading as soon as its create is answered", async () => {
  const created = await create({ name: "one" });
  assert.match(created.id, /^[0-9a-f]{14}$/);
  const read = await region.fly.Machine.getMachine({ app_name, machine_id: created.id });
  assert.equal(read.id, created.id);
  assert.equal(read.name, "one");
  const listed = await region.fly.Machine.listMachines("web");
  assert.deepEqual(
    listed.map(({ id }) => id),
    [created.id],
  );
});

test("a machine is started, waited for, stopped, restarted and destroyed", async () => {
  const { id: machine_id, instance_id } = await create({ name: "life", skip_launch: true });
  const machine = { app_name, machine_id };
  const state = async () => (await region.fly.Machine.getMachine(machine)).state as string;
  assert.equal(await state(), "created");

  assert.deepEqual(await region.fly.Machine.startMachine(machine), {
    previous_state: "created",
    migrated: false,
    new_host: "",
  });
  assert.deepEqual(
    await region.fly.Machine.waitMachine({
      ...machine,
      instance_id,
      timeout: "10s",
      state: "started",
    } as never),
    { ok: true, state: "started" },
  );
  await region.fly.Machine.signalMachine({ ...machine, signal: "SIGHUP" as never });
  assert.deepEqual(last(), { name: "signal", request: { machine_id, signal: 1 } });

  await region.fly.Machine.stopMachine({ ...machine, timeout: "7" } as never);
  assert.deepEqual(last(), { name: "stop", request: { machine_id, signal: 15, timeout_ms: 7000 } });
  await region.fly.Machine.waitMachine({ ...machine, instance_id, state: "stopped" } as never);
  await assert.rejects(
    region.fly.Machine.restartMachine(machine),
    /^Error: 412: .*failed_precondition: unable to restart machine from current state: 'stopped'/,
  );

  await region.fly.Machine.startMachine(machine);
  await region.fly.Machine.waitMachine({ ...machine, state: "started" } as never);
  await region.fly.Machine.restartMachine({ ...machine, timeout: "5s" } as never);
  assert.deepEqual(last(), { name: "restart", request: { machine_id, timeout_ms: 5000 } });
  await region.fly.Machine.waitMachine({ ...machine, state: "started" } as never);

  await assert.rejects(region.fly.Machine.deleteMachine(machine), /^Error: 412: /);
  assert.deepEqual(await region.fly.Machine.deleteMachine({ ...machine, force: true }), { ok: true });
  assert.equal(await state(), "destroyed");
  const ids = async (query: object) =>
    (await region.fly.Machine.listMachines({ app_name, ...query } as never)).map(({ id }) => id);
  assert.equal((await ids({ region: "local" })).includes(machine_id), false);
  assert.equal((await ids({ include_deleted: "", region: "local" })).includes(machine_id), true);
  assert.deepEqual(await ids({ region: "elsewhere" }), []);
});

test("an update makes a new version, and both are listed", async () => {
  const first = await create({ name: "grown" });
  const machine = { app_name, machine_id: first.id };
  await region.fly.Machine.waitMachine({ ...machine, state: "started" } as never);
  const updated = await region.fly.Machine.updateMachine({ ...machine, config: { image: "app:2" } } as never);
  assert.notEqual(updated.instance_id, first.instance_id);
  assert.equal(updated.config.image, "app:2");
  const versions = (await region.fly.Machine.listVersions(machine)) as unknown as { version: string }[];
  assert.deepEqual(
    versions.map(({ version }) => version),
    [updated.instance_id, first.instance_id],
  );
  await assert.rejects(
    region.fly.Machine.waitMachine({ ...machine, instance_id: first.instance_id, state: "stopped" } as never),
    /currently replaced/,
  );
});

test("events come newest first, and processes in the order that is asked for", async () => {
  const { id: machine_id } = await create({ name: "told" });
  const machine = { app_name, machine_id };
  await region.fly.Machine.waitMachine({ ...machine, state: "started" } as never);
  const events = await region.fly.Machine.listEvents(machine);
  const times = events.map(({ timestamp }) => timestamp as number);
  assert.deepEqual(times, [...times].sort().reverse());
  assert.equal(events.at(-1)?.type, "launch");
  const pids = async (query: object) => {
    const listed = await region.fly.Machine.listProcesses({ ...machine, ...query } as never);
    return (listed as unknown as { pid: number }[]).map(({ pid }) => pid);
  };
  assert.deepEqual(await pids({}), [1, 2]);
  assert.deepEqual(await pids({ sort_by: "cpu", order: "asc" }), [2, 1]);
  assert.deepEqual(await pids({ sort_by: "rss", order: "desc" }), [2, 1]);
});

test("a lease is acquired, read, and refuses whoever does not hold it", async () => {
  const { id: machine_id, instance_id } = await create({ name: "leased", skip_launch: true });
  const machine = { app_name, machine_id };
  await assert.rejects(region.fly.Machine.getLease(machine), /^Error: 404: .*lease not found/);
  const before = Math.floor(Date.now() / 1000);
  const made = await region.fly.Machine.acquireLease({ ...machine, ttl: 60, description: "deploy" });
  assert.equal(made.status, "success");
  const { nonce, expires_at, ...told } = made.data;
  assert.match(nonce, /./);
  assert.ok(expires_at >= before + 60 && expires_at <= before + 70, String(expires_at));
  assert.deepEqual(told, { owner: "api", description: "deploy", version: instance_id });
  assert.deepEqual(last(), {
    name: "lease-acquire",
    request: { machine_id, ttl_ms: 60_000, owner: "api", description: "deploy" },
  });
  const read = await region.fly.Machine.getLease(machine);
  assert.deepEqual(read, { status: "success", data: { expires_at, ...told } });
  const held = new RegExp(
    `^Error: 409: .*"machine ID ${machine_id} lease currently held by api, expires at \\d{4}-[^"]*Z"`,
  );
  await assert.rejects(region.fly.Machine.acquireLease({ ...machine, ttl: 60 }), held);
  await assert.rejects(region.fly.Machine.cordonMachine(machine), held);
});

test("a machine is cordoned and uncordoned, and its record says so at once", async () => {
  const { id: machine_id, cordoned } = (await create({ name: "cordoned", skip_launch: true })) as {
    id: string;
    cordoned?: boolean;
  };
  assert.equal(cordoned, false);
  const machine = { app_name, machine_id };
  const isCordoned = async () =>
    ((await region.fly.Machine.getMachine(machine)) as { cordoned?: boolean }).cordoned;
  assert.deepEqual(await region.fly.Machine.cordonMachine(machine), { ok: true });
  assert.equal(await isCordoned(), true);
  assert.deepEqual(await region.fly.Machine.uncordonMachine(machine), { ok: true });
  assert.equal(await isCordoned(), false);
});

/** Volumes and the GraphQL calls are not in this version: each answers that it is not there yet. */
const volume = { app_name, volume_id: "vol_1" };
const absent: Readonly<Record<string, (fly: TestRegion["fly"]) => Promise<unknown>>> = {
  "Volume.listVolumes": (fly) => fly.Volume.listVolumes("web"),
  "Volume.getVolume": (fly) => fly.Volume.getVolume(volume),
  "Volume.createVolume": (fly) => fly.Volume.createVolume({ app_name, name: "v", region: "local" }),
  "Volume.deleteVolume": (fly) => fly.Volume.deleteVolume(volume),
  "Volume.extendVolume": (fly) => fly.Volume.extendVolume({ ...volume, size_gb: 2 }),
  "Volume.listSnapshots": (fly) => fly.Volume.listSnapshots(volume),
  "App.getAppDetailed": (fly) => fly.App.getAppDetailed("web"),
  "Network.allocateIpAddress": (fly) => fly.Network.allocateIpAddress({ appId: "web" } as never),
  "Network.releaseIpAddress": (fly) => fly.Network.releaseIpAddress({ appId: "web" } as never),
  "Organization.getOrganization": (fly) => fly.Organization.getOrganization("personal"),
  "Regions.getRegions": (fly) => fly.Regions.getRegions(),
  "Secret.setSecrets": (fly) => fly.Secret.setSecrets({ appId: "web", secrets: [] }),
  "Secret.unsetSecrets": (fly) => fly.Secret.unsetSecrets({ appId: "web", keys: [] }),
};

for (const [name, call] of Object.entries(absent))
  test(`${name} is not served yet, says so, and is not taken for a wrong path`, () =>
    assert.rejects(call(region.fly), /^Error: 501: .*does not do this yet/));

test("the machine of another app, or no id, is not found", async () => {
  await region.createApp("other");
  const { id } = await create({ name: "mine" });
  await until(() => region.worker.machines.has(id), "the machine");
  const get = (machine_id: string) => region.fly.Machine.getMachine({ app_name: "other", machine_id });
  await assert.rejects(get(id), /^Error: 404: .*machine not found/);
  await assert.rejects(get("nonsense"), /^Error: 400: .*"error":"invalid machine ID/);
});

test("every call of the client was driven by this file", () => {
  const groups = Object.entries(region.fly).filter(([, group]) => typeof group === "object");
  const all = groups.flatMap(([group, methods]) =>
    Object.getOwnPropertyNames(Object.getPrototypeOf(methods))
      .filter((name) => name !== "constructor")
      .map((name) => `${group}.${name}`),
  );
  assert.ok(all.length >= 34, all.join());
  assert.deepEqual([...driven].sort(), all.sort());
});
