/**
 * What guests may send to the world, seen from inside of them: a real platform, real VMs, and an internet of the test's
 * own. A round of attempts is one command in the guest, all of them at once, so that those to which nothing answers cost
 * their limit once.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Fleet, type FleetHost, Region } from "@hearth/fleet";
import { type Json, repositoryRoot, until } from "@hearth/testkit";
import { hostAddress, type Internet, names, places, ports, startInternet } from "./internet.ts";

const image = "demo:latest";
const root = process.getuid?.() === 0 ? false : "a fleet needs root";
const changeLimitMs = 60_000;
/** A name is open for a minute at least, and it takes a while until it is seen to be closed. */
const expiryLimitMs = 150_000;

const tcp = (address: string, port: number = ports.http): string => `tcp ${address} ${port}`;
const dns = (address: string): string => `dns ${address}`;
const both = ({ v4, v6 }: { v4: string; v6: string }): string[] => [tcp(v4), tcp(v6)];

let fleet: Fleet;
let host: FleetHost;
let region: Region;
let internet: Internet;

async function call(method: string, path: string, body?: unknown): Promise<Json> {
  const answer = await region.call(host, method, path, { body, limitMs: 90_000 });
  assert.ok(answer.status < 300, `${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body;
}

interface Guest {
  readonly path: string;
  readonly v4: string;
  readonly v6: string;
}

async function guest(app: string, network?: object): Promise<Guest> {
  const config = { image, ...(network === undefined ? {} : { network }) };
  const { id, private_ip } = await call("POST", `/v1/apps/${app}/machines`, { config });
  const path = `/v1/apps/${app}/machines/${id}`;
  await call("GET", `${path}/wait?state=started&timeout=60`);
  const v4 = /inet (100\.\S+)\//.exec(await inside(path, "ip -4 addr show"))?.[1];
  assert.ok(v4 !== undefined);
  return { path, v4, v6: private_ip };
}

async function inside(path: string, script: string): Promise<string> {
  const { stdout } = await call("POST", `${path}/exec`, { command: ["sh", "-c", script], timeout: 60 });
  return stdout;
}

/** Those of the targets that answered. */
async function reached({ path }: Guest, targets: readonly string[]): Promise<string[]> {
  const attempts = targets.map((target) => {
    const [kind, address, port] = target.split(" ");
    const ask =
      kind === "dns"
        ? `timeout 6 nslookup ${names.other} ${address} | grep ${places.other.v4}`
        : `printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 6 nc -w 4 ${address} ${port} | grep internet`;
    return `(${ask}) >/dev/null 2>&1 && echo '${target}' &`;
  });
  const answered = (await inside(path, `${attempts.join("\n")}\nwait`)).split("\n");
  return targets.filter((target) => answered.includes(target));
}

/** Asks the guest's own resolver, until it says what it should. */
async function asks({ path }: Guest, name: string, answer: readonly string[] | "NXDOMAIN"): Promise<void> {
  const wanted = answer === "NXDOMAIN" ? [answer] : answer;
  let said = "";
  await until(`an answer about ${name}`, changeLimitMs, async () => {
    said = await inside(path, `nslookup ${name} 2>&1`);
    return wanted.every((text) => said.includes(text)) ? true : undefined;
  }).catch((error: unknown) => assert.fail(`${String(error)}: ${said}`));
}

interface Expected {
  readonly open: readonly string[];
  readonly closed: readonly string[];
}

/** None of the closed is ever reached, while it is tried until all of the open are. */
async function holds(guest: Guest, { open, closed }: Expected): Promise<void> {
  let missing: string[] = [];
  await until("what is open is reached", changeLimitMs, async () => {
    const found = await reached(guest, [...open, ...closed]);
    assert.deepEqual(
      found.filter((one) => closed.includes(one)),
      [],
      "reached though closed",
    );
    missing = open.filter((one) => !found.includes(one));
    return missing.length === 0 ? true : undefined;
  }).catch((error: unknown) => assert.fail(`${String(error)}, not reached: ${missing.join(", ")}`));
}

async function becomes(guest: Guest, { open, closed }: Expected, limitMs = changeLimitMs): Promise<void> {
  const targets = [...open, ...closed];
  const expected = targets.filter((one) => open.includes(one));
  let found: string[] = [];
  await until("the policy holds", limitMs, async () => {
    found = await reached(guest, targets);
    return JSON.stringify(found) === JSON.stringify(expected) ? true : undefined;
  }).catch((error: unknown) => assert.fail(`${String(error)}; reached: ${found.join(", ")}`));
}

/** Members of the sets of egress, those of one set a text. */
async function members(): Promise<string[]> {
  const { stdout } = await host.run(["nft", "list", "ruleset"]);
  return [...stdout.matchAll(/set (egress_\w+ \{[^{}]*elements = \{[^}]*)\}/g)].map(([, text = ""]) => text);
}
const world = [...both(places.one), ...both(places.other), ...both(places.far)];

describe("egress of guests", { skip: root, timeout: 900_000 }, () => {
  before(async () => {
    fleet = await Fleet.powerOn(1);
    host = fleet.host(1);
    internet = await startInternet(host);
    region = new Region(fleet.hosts, { apis: 1, buses: 1 });
    await region.form();
    execFileSync("bash", ["scripts/demo-image.sh"], { cwd: repositoryRoot, stdio: "ignore" });
    await region.importImage(join(repositoryRoot, ".hearth/demo/demo.tar"), image);
    for (const app_name of ["web", "kept"])
      await call("POST", "/v1/apps", { app_name, org_slug: "personal", network: app_name });
  });
  after(async () => await fleet?.[Symbol.asyncDispose]());

  test("without a policy all is open but the host, metadata and private ranges", async () => {
    const open = await guest("web");
    const closed = [
      ...both(places.metadata),
      ...both(places.private),
      tcp(hostAddress.v4, 4280),
      tcp(hostAddress.v6, 4280),
    ];
    const fromHost = await host.run([
      "curl",
      "-sS",
      ...[places.metadata, places.private]
        .flatMap(Object.values<string>)
        .map((address) => `http://${address.includes(":") ? `[${address}]` : address}/`),
    ]);
    assert.equal(fromHost.stdout.match(/^internet from /gm)?.length, 4, "the way is there, for the host");
    await holds(open, { open: [...world, dns(places.one.v4), dns(places.one.v6)], closed });
    await asks(open, names.allowed, Object.values(places.one));
    await call("DELETE", `${open.path}?force=true`);
  });

  test("a machine without the internet reaches its own network and its names, and asks for no others", async () => {
    const [closed, neighbour] = [await guest("web", { allow_internet_access: false }), await guest("web")];
    const [own] = await Promise.all([
      inside(closed.path, `ping -6 -c 2 -W 5 ${neighbour.v6}`),
      holds(closed, { open: [], closed: [...world, dns(places.one.v4), dns("198.51.100.53")] }),
    ]);
    assert.match(own, /2 packets received/);
    const id = neighbour.path.split("/").at(-1);
    await asks(closed, `${id}.vm.web.internal`, [neighbour.v6]);
    await asks(closed, "secret.allowed.example", "NXDOMAIN");
    assert.doesNotMatch(await internet.asked(), /secret/, "a question is no way out");
    for (const { path } of [closed, neighbour]) await call("DELETE", `${path}?force=true`);
  });

  test("blocks and ports are allowed over what is denied, in either family", async () => {
    const ruled = await guest("web", {
      allowOut: [
        `${places.one.v4}/32`,
        `tcp:[${places.one.v6}]:${ports.http}`,
        "2001:db8:2::/48",
        `udp:${places.other.v4}:${ports.dns}`,
      ],
      denyOut: ["203.0.113.0/24", "2001:db8::/32", `${places.far.v4}:${ports.other}`],
    });
    await holds(ruled, {
      open: [
        tcp(places.one.v4),
        tcp(places.one.v4, ports.other),
        tcp(places.one.v6),
        tcp(places.far.v6),
        // Named by no rule.
        tcp(places.far.v4),
        dns(places.other.v4),
      ],
      closed: [
        ...both(places.other),
        tcp(places.one.v6, ports.other),
        dns(places.one.v6),
        tcp(places.far.v4, ports.other),
      ],
    });
    const config = { image, network: { denyOut: ["203.0.113.0/24"] } };
    const { instance_id } = await call("POST", ruled.path, { config });
    await call("GET", `${ruled.path}/wait?state=started&instance_id=${instance_id}&timeout=60`);
    await holds(ruled, {
      open: [tcp(places.one.v6, ports.other), tcp(places.other.v6), ...both(places.far)],
      closed: [tcp(places.one.v4), tcp(places.other.v4)],
    });
    await call("DELETE", `${ruled.path}?force=true`);
  });

  test("an address is open by its name for as long as its answer holds, and no other is", async () => {
    const named = await guest("web", {
      allowOut: [`${names.allowed}:${ports.http}`, "*.wild.example"],
      allow_internet_access: false,
    });
    await holds(named, { open: [], closed: [...world, dns("198.51.100.53")] });
    await asks(named, names.allowed, Object.values(places.one));
    await asks(named, names.below, Object.values(places.far));
    await holds(named, {
      open: [...both(places.one), ...both(places.far), tcp(places.far.v4, ports.other)],
      closed: [...both(places.other), tcp(places.one.v4, ports.other), tcp(places.one.v6, ports.other)],
    });
    await asks(named, names.other, "NXDOMAIN");
    await becomes(named, { open: [], closed: world }, expiryLimitMs);
    await asks(named, names.allowed, Object.values(places.one));
    await holds(named, { open: both(places.one), closed: both(places.far) });
    const isOpenByName = async (): Promise<boolean[]> => {
      const sets = await members();
      return [named.v4, named.v6].map((address) => sets.some((text) => text.includes(`${address} .`)));
    };
    assert.deepEqual(await isOpenByName(), [true, true]);
    await call("DELETE", `${named.path}?force=true`);
    await until("nothing of it is in the firewall", changeLimitMs, async () => {
      const left = await isOpenByName();
      return left.includes(true) ? undefined : true;
    });
  });

  test("of its app holds for a machine without its own, and a change at once for one that runs", async () => {
    const egress = "/v1/apps/kept/egress";
    await call("PUT", egress, { denyOut: [`${places.one.v4}/32`, `${places.one.v6}/128`] });
    const [kept, own] = [await guest("kept"), await guest("kept", { denyOut: [`${places.far.v4}/32`] })];
    const before = await call("GET", kept.path);
    await Promise.all([
      holds(kept, { open: [...both(places.other), ...both(places.far)], closed: both(places.one) }),
      holds(own, { open: [...both(places.one), tcp(places.far.v6)], closed: [tcp(places.far.v4)] }),
    ]);
    await call("PUT", egress, { denyOut: ["all"], allowOut: [`${places.one.v4}/32`, names.below] });
    await becomes(kept, { open: [tcp(places.one.v4)], closed: world.slice(1) });
    await asks(kept, names.below, Object.values(places.far));
    await holds(kept, { open: [tcp(places.one.v4), ...both(places.far)], closed: both(places.other) });
    await call("PUT", egress, { denyOut: ["all"] });
    await becomes(kept, { open: [], closed: world });
    await call("DELETE", egress);
    await becomes(kept, { open: world, closed: [] });
    const now = await call("GET", kept.path);
    assert.deepEqual([now.state, now.instance_id], ["started", before.instance_id], "it was not restarted");
    await holds(own, { open: [tcp(places.far.v6)], closed: [tcp(places.far.v4)] });
    for (const { path } of [kept, own]) await call("DELETE", `${path}?force=true`);
  });

  test("when the machines are gone, nothing of their policies is left on the host", async () => {
    await until("the sets are empty", changeLimitMs, async () =>
      (await members()).length === 0 ? true : undefined,
    );
    const { code, stdout } = await host.hearth(["doctor", "--deep", "--json"]);
    assert.equal(code, 0, stdout);
    assert.deepEqual(
      JSON.parse(stdout).inspections.flatMap(({ differences }: Json) =>
        differences.filter(({ pending }: Json) => !pending),
      ),
      [],
    );
  });
});
