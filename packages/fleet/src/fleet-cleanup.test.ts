/** Whatever becomes of the process that made a fleet, nothing of the fleet stays. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Fleet } from "./fleet.ts";
import { sweepFleets } from "./fleet-claim.ts";

const root = process.getuid?.() === 0 ? false : "namespaces need root";
const limitMs = 30_000;

interface Held {
  readonly name: string;
  readonly directory: string;
  readonly pids: readonly number[];
  readonly namespaces: readonly string[];
}

const ticksPerS = 100;
const upTicks = (): number => Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]) * ticksPerS;

/** Field 22 of proc(5); the name before it may hold spaces, and ends with the last parenthesis. */
function startTicks(pid: string): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]);
}

function startedBy(pid: string, ticks: number): boolean {
  try {
    return startTicks(pid) <= ticks;
  } catch {
    return false; // it ended while it was looked at
  }
}

/** Of every process that ran by then: the number of a namespace that is gone is given to the next that is made. */
function namespacesInUse(ticks: number): Set<string> {
  const kinds = ["net", "mnt", "pid", "uts"];
  const found = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && startedBy(name, ticks))
    .flatMap((pid) =>
      kinds.flatMap((kind) => {
        try {
          return [readlinkSync(`/proc/${pid}/ns/${kind}`)];
        } catch {
          return []; // it ended while it was looked at
        }
      }),
    );
  return new Set(found);
}

function leftOf({ name, directory, pids, namespaces }: Held, ticks = upTicks()): string[] {
  const links = execFileSync("ip", ["-o", "link"], { encoding: "utf8" }).split("\n");
  const inUse = namespacesInUse(ticks);
  return [
    ...links.filter((line) => line.includes(` ${name}`)),
    ...pids.filter((pid) => existsSync(`/proc/${pid}`)).map((pid) => `process ${pid}`),
    ...namespaces.filter((one) => inUse.has(one)),
    ...(existsSync(directory) ? [directory] : []),
    ...readFileSync("/proc/mounts", "utf8")
      .split("\n")
      .filter((line) => line.includes(directory)),
    ...execFileSync("nft", ["list", "tables"], { encoding: "utf8" })
      .split("\n")
      .filter((line) => /left_behind|faults/.test(line)),
    ...execFileSync("ip", ["netns"], { encoding: "utf8" })
      .split("\n")
      .filter((line) => line.includes(name)),
  ];
}

async function holdFleet() {
  const child = spawn(process.execPath, [join(import.meta.dirname, "testing/hold-fleet.ts")], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(child.stdout, "data", { signal: AbortSignal.timeout(limitMs) });
  return { child, held: JSON.parse(String(line)) as Held };
}

async function untilGone(held: Held): Promise<void> {
  const endMs = Date.now() + limitMs;
  const ticks = upTicks();
  while (leftOf(held, ticks).length > 0 && Date.now() < endMs) await delay(20);
  assert.deepEqual(leftOf(held, ticks), []);
}

for (const signal of ["SIGKILL", "SIGTERM"] as const)
  test(`a process that dies by ${signal} leaves nothing of its fleet`, {
    skip: root,
    timeout: 90_000,
  }, async () => {
    const { child, held } = await holdFleet();
    assert.ok(held.pids.length >= 6 && held.namespaces.length === 8, JSON.stringify(held));
    assert.ok(leftOf(held).length > held.pids.length, "the look sees what there is");
    const exited = once(child, "exit");
    child.kill(signal);
    await exited;
    await untilGone(held);
  });

test("a fleet whose switch was killed too is swept, and one that lives is not", {
  skip: root,
  timeout: 90_000,
}, async () => {
  await using fleet = await Fleet.powerOn(1);
  const old = new Date(Date.now() - 3_600_000);
  utimesSync(fleet.directory, old, old);
  const names = Array.from({ length: 256 }, (_, number) => `hf${number.toString(16).padStart(2, "0")}`);
  const directory = names.map((name) => join(tmpdir(), name)).find((path) => !existsSync(path));
  assert.ok(directory !== undefined);
  mkdirSync(join(directory, "h1/data"), { recursive: true });
  writeFileSync(join(directory, "fleet.lock"), "");
  const isThere = () => existsSync(directory);
  try {
    await sweepFleets();
    assert.ok(isThere(), "it may be about to be locked");
    utimesSync(directory, old, old);
    await sweepFleets();
    assert.equal(isThere(), false);
    assert.ok(existsSync(fleet.directory));
    assert.equal((await fleet.host(1).run(["true"])).code, 0);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test("two fleets at a time do not meet", { skip: root, timeout: 90_000 }, async () => {
  await using one = await Fleet.powerOn(1);
  await using two = await Fleet.powerOn(1);
  assert.notEqual(one.name, two.name);
  const to = two.host(1);
  const reach = (address: string) => ["bash", "-c", `timeout 2 bash -c '</dev/tcp/${address}/9' 2>&1; true`];
  assert.match((await one.host(1).run(reach(to.address))).stdout, /unreachable/i);
  assert.match((await to.run(reach(to.address))).stdout, /refused/i);
});
