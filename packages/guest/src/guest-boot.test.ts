/** The agent as process 1 of a real machine: boots, keeps its house, takes a new host, ends. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { lchownSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { BootedGuest, exec, missingForBoot } from "./testing/booted-guest.ts";

const isRoot = process.getuid?.() === 0;
const mac = "02:00:00:00:09:03";
const made: string[] = [];
const taps = isRoot ? [`hg${process.pid}a`, `hg${process.pid}b`] : [];

/** Its own addresses for each process, so that runs beside one another do not answer each other's pings. */
const block = (process.pid % 16_384) * 8;
const v4 = (host: number): string =>
  `198.${18 + (block >> 16)}.${(block >> 8) & 255}.${(block & 255) + host}`;
const v6 = (host: number): string => `fd09:1:1:${((process.pid & 0x7fff) + 1).toString(16)}::${host}`;

const ip = (line: string): void => void execFileSync("ip", line.split(" "));

function makeTaps(): void {
  for (const tap of taps) {
    made.push(tap);
    ip(`tuntap add dev ${tap} mode tap`);
    ip(`link set ${tap} up`);
  }
  const [first] = taps;
  if (first === undefined) return;
  ip(`addr add ${v4(1)}/29 dev ${first}`);
  ip(`addr add ${v6(1)}/64 dev ${first} nodad`);
}

/** Links in the places of directories, and in /run what a program of the image needs but may not make. */
function furnish(tree: string): void {
  writeFileSync(join(tree, "etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/tmp:/bin/sh\n");
  symlinkSync("/nowhere", join(tree, "proc"));
  symlinkSync("../run/systemd/resolve/stub-resolv.conf", join(tree, "etc/resolv.conf"));
  mkdirSync(join(tree, "run/database"), { recursive: true, mode: 0o755 });
  writeFileSync(join(tree, "run/database/pid"), "17\n");
  symlinkSync("/run/database", join(tree, "run/db"));
  if (isRoot) lchownSync(join(tree, "run/database"), 1000, 1000);
}

suite("a booted guest", { skip: missingForBoot(), timeout: 240_000 }, () => {
  let booted: BootedGuest;

  before(async () => {
    makeTaps();
    const nics = taps.slice(0, 1).map((tap) => ({ tap, mac }));
    booted = await BootedGuest.boot({ nics, furnish });
  });

  after(async () => {
    await booted?.[Symbol.asyncDispose]();
    for (const tap of made) ip(`link del ${tap}`);
  });

  test("has the agent as process 1 in the image's root", async () => {
    const hello = await booted.client.hello({});
    assert.equal(hello.init, true);
    const { output, code } = await exec(
      booted.client,
      "cat /proc/1/comm; ls /; echo written >/etc/new && cat /etc/new",
    );
    assert.equal(code, 0, output);
    assert.match(output, /^(init|hearth-guest-ag)\nbin\ndev\netc\nproc\nrun\nsys\ntmp\nwritten\n$/);
  });

  test("spends little on the agent", async () => {
    const { output } = await exec(booted.client, "cat /proc/1/status");
    const kib = Number(/^VmRSS:\s+(\d+) kB$/m.exec(output)?.[1]);
    assert.ok(kib > 0 && kib <= 6 * 1024, `${kib} KiB`);
    const { agentRssBytes } = await booted.client.stats({});
    assert.ok(agentRssBytes > 0n && agentRssBytes <= 6n << 20n, `${agentRssBytes} bytes`);
  });

  test("has a fresh /run with the directories of the image's", async () => {
    const { output } = await exec(booted.client, "cd /run; find . | sort; readlink db; stat -c %u database");
    assert.equal(output, `.\n./database\n./db\n/run/database\n${isRoot ? 1000 : 0}\n`);
  });

  test("takes its name and runs its main process as a user", async () => {
    await booted.client.configure({ hostname: "web-1", env: { COLOUR: "red" } });
    const { output } = await exec(booted.client, "hostname; echo $COLOUR; cat /etc/hostname; ping -c1 web-1");
    assert.match(output, /^web-1\nred\nweb-1\nPING web-1 \(127\.0\.1\.1\)/);
    await booted.client.startMain({
      argv: ["/bin/sh", "-c", "id -u; pwd; exit 5"],
      user: "app",
      workdir: "/tmp/made/by/start",
    });
    let exited: unknown;
    for await (const { status } of booted.client.waitMain({}))
      if (status.case === "exited") exited = status.value.code;
    assert.equal(exited, 5);
    let logged = "";
    for await (const { data } of booted.client.logs({})) logged += Buffer.from(data).toString();
    assert.equal(logged, "1000\n/tmp/made/by/start\n");
  });

  test("gets addresses and routes of both families, and gives up those of an earlier call", async (context) => {
    if (!isRoot) return context.skip("making a tap device needs root");
    await booted.client.configure({ addresses: [{ device: mac, cidr: `${v4(3)}/32` }] });
    await booted.client.configure({
      addresses: [`${v4(2)}/32`, `${v6(2)}/64`].map((cidr) => ({ device: mac, cidr })),
      routes: [v4(1), v6(1)].map((gateway) => ({ device: mac, gateway })),
      nameservers: [v6(53)],
      searchDomains: ["internal"],
    });
    const { output } = await exec(
      booted.client,
      `ip -o addr; ip route; ip -6 route; cat /etc/resolv.conf; ping -c1 ${v4(1)}; ping -c1 ${v6(1)}`,
    );
    for (const text of [
      "inet 127.0.0.1/8",
      `inet ${v4(2)}/32`,
      `inet6 ${v6(2)}/64`,
      `default via ${v4(1)} dev eth0`,
      `default via ${v6(1)} dev eth0`,
      `nameserver ${v6(53)}\nsearch internal\n`,
    ])
      assert.ok(output.includes(text), `${text} in ${output}`);
    assert.ok(!output.includes(`inet ${v4(3)}/`), output);
    assert.equal(output.split("1 packets received").length, 3, output);
    const { networkSentBytes, networkReceivedBytes } = await booted.client.stats({});
    assert.ok(networkSentBytes > 0n && networkReceivedBytes > 0n);
  });

  test("answers a new host after the old one went away in the middle of a transfer", async () => {
    const stuck = exec(booted.client, "head -c 50000000 /dev/zero").catch(() => "broken");
    await booted.client.hello({});
    await booted.connect();
    assert.equal((await exec(booted.client, "echo again")).output, "again\n");
    assert.equal(await stuck, "broken");
  });

  test("ends what a lost host ran, and rests until there is a new one", async () => {
    const cpuMs = async () => {
      const { processes } = await booted.client.listProcesses({});
      return Number(processes.find(({ pid }) => pid === 1)?.cpuMs);
    };
    const lost = exec(booted.client, "exec cat /dev/zero").catch(() => "broken");
    const before = await cpuMs();
    await booted.disconnect();
    assert.equal(await lost, "broken");
    // What is measured is a stretch of time without a host.
    await delay(3_000);
    await booted.connect();
    const { processes } = await booted.client.listProcesses({});
    assert.ok(!processes.some(({ argv }) => argv[0] === "cat"), "the process runs on");
    const spent = (await cpuMs()) - before;
    assert.ok(spent < 1_000, `process 1 spent ${spent} ms`);
  });

  test("answers a new host after it was restored in the middle of a conversation, and becomes another machine", async () => {
    await booted.client.hello({});
    await booted.snapshot();
    const clone = await booted.clone(
      "clone",
      taps.slice(1).map((tap) => ({ tap, mac })),
    );
    assert.equal((await exec(clone.client, "cat /etc/new")).output, "written\n");
    const short = clone.client.adoptIdentity({ entropy: randomBytes(31) });
    await assert.rejects(
      short.catch((thrown) => Promise.reject(clone.error(thrown))),
      { code: "invalid_argument" },
    );
    const machineId = randomBytes(16).toString("hex");
    const year2040 = 2_208_988_800n * 1_000_000_000n;
    await clone.client.adoptIdentity({
      ...{ entropy: randomBytes(32), machineId, replaceEnv: true },
      configure: {
        ...{ hostname: "web-2", env: { NAME: "clone" }, unixNs: year2040 },
        addresses: isRoot ? [{ device: mac, cidr: `${v4(4)}/32` }] : [],
      },
    });
    const look =
      'hostname; cat /etc/machine-id; echo "$COLOUR $NAME"; date +%Y; cat /etc/hosts; ip -o -4 addr show eth0';
    const { output } = await exec(clone.client, look);
    assert.ok(output.startsWith(`web-2\n${machineId}\n clone\n2040\n`), output);
    assert.match(output, /\tweb-2$/m);
    if (isRoot) assert.ok(output.includes(`inet ${v4(4)}/32`) && !output.includes(`inet ${v4(2)}/`), output);
    const original = await exec(booted.client, 'hostname; echo "$COLOUR"; date +%Y');
    assert.match(original.output, /^web-1\nred\n(?!2040)/);
  });

  test("switches off when told, after main had its time and its last words were heard", async () => {
    const script = "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    const { firstSeq } = await booted.client.startMain({ argv: ["/bin/sh", "-c", script] });
    let logged = "";
    let asked = false;
    const exit = booted.exit(20_000);
    const signal = AbortSignal.timeout(30_000);
    const exited = (async () => {
      for await (const { status } of booted.client.waitMain({}, { signal }))
        if (status.case === "exited") return status.value.code;
    })();
    for await (const { data } of booted.client.logs({ fromSeq: firstSeq, follow: true }, { signal })) {
      logged += Buffer.from(data).toString();
      if (!asked) await booted.client.shutdown({ graceMs: 10_000 });
      asked = true;
    }
    assert.equal(await exited, 9);
    assert.equal(logged, "ready\nbye\n");
    assert.deepEqual(await exit, { reason: "guest", code: 0, signal: null });
  });
});

suite("an image of one program and no directory", { skip: missingForBoot(), timeout: 120_000 }, () => {
  test("boots, and has what every program may expect", async () => {
    await using booted = await BootedGuest.boot({ bare: true });
    const { output } = await exec(
      booted.client,
      "ls /; stat -c %a /tmp /dev/shm; test -c /dev/ptmx && ls -d /dev/pts /sys/fs/cgroup/hearth.main; cat /etc/hosts",
    );
    assert.ok(
      output.startsWith("bin\ndev\netc\nproc\nrun\nsys\ntmp\n1777\n1777\n/dev/pts\n/sys/fs/"),
      output,
    );
    assert.match(output, /127\.0\.0\.1\tlocalhost/);
  });
});
