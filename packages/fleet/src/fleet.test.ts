/** The hosts of a fleet without Hearth on them: the network, its faults, and the ends that a host can come to. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { Fleet } from "./fleet.ts";
import type { FleetHost } from "./fleet-host.ts";
import { datagramsThrough, roundTripMs } from "./testing/datagrams.ts";

const root = process.getuid?.() === 0 ? false : "namespaces need root";

describe("hosts without Hearth", { skip: root, timeout: 120_000 }, () => {
  let fleet: Fleet;
  let one: FleetHost;
  let two: FleetHost;
  let three: FleetHost;

  before(async () => {
    fleet = await Fleet.powerOn(3);
    [one, two, three] = [fleet.host(1), fleet.host(2), fleet.host(3)];
  });
  afterEach(async () => await fleet.heal());
  after(async () => await fleet?.[Symbol.asyncDispose]());

  test("a host has its own name, interfaces and boot id, and no way out of the fleet", async () => {
    const look = "hostname; ls /sys/class/net; ip route";
    const { stdout } = await one.run(["bash", "-c", look]);
    const network = one.address.replace(/\d+$/, "0/24");
    const route = `${network} dev eth0 proto kernel scope link src ${one.address} `;
    assert.deepEqual(stdout.split("\n"), [one.name, "eth0", "lo", route, ""]);
    const bootIds = await Promise.all(
      fleet.hosts.map(async (host) => (await host.run(["cat", "/proc/sys/kernel/random/boot_id"])).stdout),
    );
    assert.equal(new Set(bootIds).size, 3);
  });

  test("a cut is one way, a partition both, and healing takes them back", async () => {
    await fleet.cut(one, two);
    assert.equal(await datagramsThrough(fleet, [one, two]), 0);
    assert.equal(await datagramsThrough(fleet, [two, one]), 20);
    await fleet.partition([three], [one, two]);
    assert.equal(await datagramsThrough(fleet, [three, one]), 0);
    assert.equal(await datagramsThrough(fleet, [two, three]), 0);
    assert.equal(await datagramsThrough(fleet, [two, one]), 20, "faults add up, and do not spread");
    await fleet.heal();
    assert.equal(await datagramsThrough(fleet, [one, two]), 20);
    assert.equal(await datagramsThrough(fleet, [three, one]), 20);
  });

  test("a cable may lose a share of what goes one way", async () => {
    await fleet.loss(one, two, 50);
    const arrived = await datagramsThrough(fleet, [one, two], 400);
    assert.ok(arrived > 100 && arrived < 300, `${arrived} of 400`);
    assert.equal(await datagramsThrough(fleet, [two, one]), 20);
    await fleet.heal();
  });

  test("a slow cable delays, still obeys cuts, and is mended", async () => {
    await fleet.latency(two, 40);
    assert.ok((await roundTripMs([one, two])) > 30);
    assert.equal(await datagramsThrough(fleet, [one, two]), 20);
    await fleet.partition([one], [two]);
    assert.equal(await datagramsThrough(fleet, [one, two]), 0);
    assert.equal(await datagramsThrough(fleet, [two, one]), 0);
    await fleet.heal();
    assert.equal(await datagramsThrough(fleet, [one, two]), 20);
    assert.ok((await roundTripMs([one, two])) < 30);
  });

  test("a lost host is gone at once with all it ran, and keeps its disk and its faults", async () => {
    const { stdout: before } = await two.run(["cat", "/proc/sys/kernel/random/boot_id"]);
    const start =
      'mkdir -p "$HEARTH_DATA_DIR" "$HEARTH_RUN_DIR"; touch "$HEARTH_DATA_DIR/kept" "$HEARTH_RUN_DIR/gone"';
    await two.run([
      "bash",
      "-c",
      `${start}; (trap '' TERM HUP; setsid sleep 1000 </dev/null >/dev/null 2>&1 &)`,
    ]);
    const pids = two.processes().map(({ pid }) => pid);
    assert.ok(pids.length >= 3);
    await fleet.cut(one, two);
    await two.lose();
    assert.equal(two.isUp, false);
    assert.deepEqual(two.processes(), []);
    for (const pid of pids) assert.equal(existsSync(`/proc/${pid}`), false, `process ${pid}`);
    await assert.rejects(two.run(["true"]), { code: "unavailable" });
    await two.boot();
    assert.ok(existsSync(join(two.files.dataDir, "kept")));
    assert.equal(existsSync(join(two.files.runDir, "gone")), false);
    assert.notEqual((await two.run(["cat", "/proc/sys/kernel/random/boot_id"])).stdout, before);
    assert.equal(await datagramsThrough(fleet, [one, two]), 0);
    await fleet.heal();
    assert.equal(await datagramsThrough(fleet, [one, two]), 20);
    await three.destroy();
    assert.equal(existsSync(three.files.directory), false);
    await three.boot();
  });

  test("a host may boot with a clock that is wrong, and timers keep their time", async () => {
    await three.lose();
    await three.boot({ clockSkewMs: 3_600_000 });
    const program = "const t = Date.now(); setTimeout(() => console.log(t, Date.now() - t), 200)";
    const { stdout } = await three.run([process.execPath, "-e", program]);
    const [then = 0, waited = 0] = stdout.split(" ").map(Number);
    assert.ok(Math.abs(then - Date.now() - 3_600_000) < 60_000, stdout);
    assert.ok(waited >= 199 && waited < 20_000, stdout);
    await three.lose();
    await three.boot({ clockSkewMs: -86_400_000 });
    const seconds = Number((await three.run(["date", "+%s"])).stdout);
    assert.ok(Math.abs(seconds * 1000 - Date.now() + 86_400_000) < 60_000);
    await three.lose();
    await three.boot();
    assert.ok(Math.abs(Number((await three.run(["date", "+%s"])).stdout) * 1000 - Date.now()) < 60_000);
  });

  test("what one enters a host by works from any shell", () => {
    const entered = execFileSync(one.files.enterPath, ["bash", "-c", "hostname; echo $HEARTH_DATA_DIR"], {
      encoding: "utf8",
    });
    assert.equal(entered, `${one.name}\n${one.files.dataDir}\n`);
    assert.match(readFileSync(one.files.enterPath, "utf8"), /^#!\/bin\/sh\n/);
  });
});

test("more hosts than a network has addresses for are refused", { skip: root }, async () => {
  await assert.rejects(Fleet.powerOn(0), { code: "invalid_argument" });
  await assert.rejects(Fleet.powerOn(33), { code: "invalid_argument" });
});
