/**
 * The drill itself, in small, and its judge, which is shown on the same fleet what it is there to find: virtual
 * machines that run twice, machines that are lost, a destroyed one that lives, one that does not do what it was told,
 * and an API that denies one.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, describe, test } from "node:test";
import { demoImage, type FleetHost, type RunningFleet, until } from "@hearth/testkit";
import { seeded } from "@hearth/worker";
import { drillApp, FleetClients, type FleetMachine, machinesPath } from "./fleet-clients.ts";
import { DoubleWatch, judge } from "./fleet-verdict.ts";
import { partitionFleet, startPartitionFleet } from "./partition.ts";

const skip = process.getuid?.() === 0 ? false : "making a fleet needs root";
const limitMs = 60_000;

describe("the partition drill", { skip, timeout: 280_000 }, () => {
  let fleet: RunningFleet;
  let machine: FleetMachine & { readonly id: string };
  let home: FleetHost;
  let elsewhere: FleetHost;

  before(async () => {
    fleet = await startPartitionFleet();
  });
  after(async () => await fleet?.[Symbol.asyncDispose]());

  /** Clients that were told this, and nothing else. */
  const clients = (machines: readonly FleetMachine[], mostReal = 0) => {
    const made = new FleetClients(fleet, seeded(1), demoImage, mostReal);
    made.machines.push(...machines);
    return made;
  };
  const verdict = (...machines: FleetMachine[]) => judge(fleet, clients(machines));
  const call = (method: string, path: string, body?: object) => {
    const [api] = fleet.region.apis;
    return fleet.region.call(api as FleetHost, method, path, { body, limitMs });
  };

  test("a service that stood still and a cut between two hosts cost nothing that was acknowledged", async (t) => {
    const seed = Date.now() % 1_000_000;
    const result = await partitionFleet(fleet, {
      ...{ seed, seconds: 10, kinds: ["pause", "part"], longestHoldMs: 3_000 },
    });
    t.diagnostic(JSON.stringify(result));
    assert.deepEqual(result.found, [], `seed ${seed}`);
    assert.deepEqual([result.double_placements, result.lost_acknowledgements, result.stuck], [0, 0, 0]);
    assert.ok(result.acknowledged.created > 0 && result.ran > 0);
    assert.equal(result.faults.length, 2);
  });

  test("a machine that is as its client was told is nothing to find", async () => {
    const config = { image: demoImage, guest: { cpu_kind: "shared", cpus: 1, memory_mb: 128 } };
    const { status, body } = await call("POST", machinesPath, { config });
    assert.equal(status, 200, JSON.stringify(body));
    const waited = await call("GET", `${machinesPath}/${body.id}/wait?state=started&timeout=60`);
    assert.equal(waited.status, 200, JSON.stringify(waited.body));
    const known = { name: body.name, key: "", body: {}, isReal: true, id: body.id };
    machine = { ...known, state: "there", wanted: "started" };
    home = fleet.hosts.find((host) => fleet.region.nodeId(host) === body.placement.node_id) as FleetHost;
    elsewhere = fleet.hosts.find((host) => host !== home) as FleetHost;
    const { double, lost, stuck } = await until("both APIs list it", limitMs, async () => {
      const seen = await verdict(machine);
      return seen.lost.size + seen.stuck.size === 0 ? seen : undefined;
    });
    assert.deepEqual([...double, ...lost, ...stuck], []);
  });

  test("a virtual machine that runs on two hosts at once is seen at the time, and by the judge", async () => {
    await using watch = new DoubleWatch(fleet.hosts);
    const console = join(elsewhere.files.runDir, "m", machine.id, "by-hand");
    const byHand = elsewhere.run(["qemu-system-x86_64", "-M", "none", "-display", "none", "-name", console]);
    await until("it was seen", limitMs, async () => watch.found.get(machine.id));
    assert.match((await verdict(machine)).double.get(machine.id) ?? "", /run the machine/);
    for (const { pid, args } of elsewhere.processes())
      if (args[0]?.includes("qemu-system") && args.includes(console)) process.kill(pid, "SIGKILL");
    await byHand;
    assert.equal((await verdict(machine)).double.size, 0);
  });

  test("a machine that two workers have on their disks is a double", async () => {
    const database = (host: FleetHost) => join(host.files.dataDir, "worker/worker.db");
    await elsewhere.pause("worker");
    try {
      using other = new DatabaseSync(database(elsewhere));
      other.exec(`ATTACH '${database(home)}' AS home`);
      other.prepare("INSERT INTO machines SELECT * FROM home.machines WHERE machine_id = ?").run(machine.id);
      assert.match((await verdict(machine)).double.get(machine.id) ?? "", /have the machine/);
      other.prepare("DELETE FROM main.machines WHERE machine_id = ?").run(machine.id);
    } finally {
      await elsewhere.resume("worker");
    }
  });

  test("one request that made two machines is a double", async () => {
    const { body } = await call("POST", machinesPath, { config: { image: demoImage }, skip_launch: true });
    const { double } = await until("both are listed", limitMs, async () => {
      const seen = await verdict({ ...machine, name: body.name });
      return seen.double.size > 0 ? seen : undefined;
    });
    assert.match(double.get(body.name) ?? "", /are one request/);
  });

  test("a machine that was told to rest and runs is stuck, and a destroyed one that is there is lost", async () => {
    assert.match((await verdict({ ...machine, wanted: "rests" })).stuck.get(machine.id) ?? "", /at rest/);
    assert.match(
      (await verdict({ ...machine, state: "gone" })).lost.get(machine.name) ?? "",
      /was destroyed/,
    );
  });

  test("an acknowledged machine that is gone is lost, and an API that denies it is counted", async () => {
    assert.equal((await call("DELETE", `${machinesPath}/${machine.id}?force=true`)).status, 200);
    await until("no API lists it", limitMs, async () => (await verdict(machine)).lost.get(machine.name));
    const watching = clients([]);
    watching.run(1);
    try {
      await until(
        "a create is acknowledged",
        limitMs,
        async () => watching.acknowledged.created || undefined,
      );
      assert.deepEqual(watching.denied, []);
      const deleted = await call("DELETE", `/v1/apps/${drillApp}?force=true`);
      assert.equal(deleted.status, 202, JSON.stringify(deleted.body));
      const denied = await until("it was denied", limitMs, async () => watching.denied[0]);
      assert.match(denied, /app_not_found/);
    } finally {
      await watching.stop();
    }
  });
});
