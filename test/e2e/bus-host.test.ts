/**
 * Hosts of the bus are removed from a region, dead and alive, while clients write. What was acknowledged is there, and
 * the one that comes back with its old files has no part in the bus.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { ensureUserKey, openOperatorDoor, serverConnections, serverGroup, serverId } from "@hearth/cluster";
import { type Finished, freePort, type Json, until } from "@hearth/testkit";
import { type RegionHost, type RegionHosts, regionHosts } from "./region-hosts.ts";

const limitMs = 90_000;
const routePort = 6222;

let region: RegionHosts;
let hosts: readonly [RegionHost, RegionHost, RegionHost, RegionHost];
let token = "";

const done = ({ code, stdout, stderr }: Finished): string => {
  assert.equal(code, 0, `${stdout}${stderr}`);
  return stdout.trim();
};
const hearth = (host: RegionHost, ...args: string[]) => host.hearth(args, { HEARTH_TOKEN: token });
const invite = async (...flags: string[]): Promise<string> =>
  done(await hosts[0].hearth(["token", "node", ...flags]));
const nodeOf = async (host: RegionHost): Promise<Json> => (await host.doctor({ HEARTH_TOKEN: token })).node;
const idOf = async (host: RegionHost): Promise<string> => (await nodeOf(host)).node_id;
const secretOf = (host: RegionHost): string =>
  readFileSync(join(host.dataDir, "credentials/route.secret"), "utf8").split("\n")[0] ?? "";
const serversOn = (host: RegionHost): readonly number[] =>
  host
    .processes()
    .filter(({ command }) => command.includes("nats-server") && !command.includes("/operator/"))
    .map(({ pid }) => pid);
const hasServer = (host: RegionHost): boolean => serversOn(host).length > 0;

const copies = (host: RegionHost, count: number) =>
  until(`${count} copies of the state`, limitMs, async () => {
    const { current_copies, members } = (await nodeOf(host))?.bus ?? {};
    return current_copies === count && members.length === count ? true : undefined;
  });

/** As the agent of `by` sees them, with the secret that it has: what each is connected with, and which decide. */
async function serversSeenBy(by: RegionHost, among: readonly RegionHost[]) {
  await using place = new AsyncDisposableStack();
  const dir = mkdtempSync(join(tmpdir(), "hearth-door-"));
  place.defer(() => rmSync(dir, { recursive: true, force: true }));
  const seedPath = join(dir, "operator.seed");
  const door = await openOperatorDoor({
    ...{ dir, port: await freePort(), name: await idOf(by), seedPath, key: ensureUserKey(seedPath) },
    cluster: {
      ...{ name: "hearth-local", secret: secretOf(by) },
      routes: among.map(({ address }) => `${address}:${routePort}`),
    },
  });
  place.use(door);
  const group = await serverGroup(door.bus).catch(() => undefined);
  return { connections: await serverConnections(door.bus), ids: group?.ids ?? [] };
}

/** Only these are servers of the bus, by what each of them says. */
async function onlyServers(of: readonly RegionHost[]): Promise<void> {
  const [first] = of;
  assert.ok(first);
  const ids = await Promise.all(of.map(idOf));
  await until(`${ids.join(", ")} are the servers`, limitMs, async () => {
    // They start again with another secret.
    const seen = await serversSeenBy(first, of).catch(() => undefined);
    if (seen === undefined || [...seen.connections.keys()].sort().join() !== ids.toSorted().join())
      return undefined;
    for (const id of ids) {
      const others = ids.filter((other) => other !== id);
      if (seen.connections.get(id)?.toSorted().join() !== others.toSorted().join()) return undefined;
    }
    return seen.ids.toSorted().join() === ids.map(serverId).sort().join() ? true : undefined;
  });
}

/** Makes apps through one API, one after the other, and knows which were acknowledged. */
function writeThrough(host: RegionHost, prefix: string) {
  const acknowledged: string[] = [];
  let isOver = false;
  let longestMs = 0;
  let number = 0;
  const attempt = async (name: string): Promise<boolean> => {
    const answer = await fetch(`http://${host.address}:4280/v1/apps`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify({ app_name: name, org_slug: "personal" }),
      signal: AbortSignal.timeout(15_000),
    }).catch(() => undefined);
    if (answer?.status === 201) return true;
    // Taken: an earlier try was written, and its answer was in doubt.
    const body = (await answer?.json().catch(() => undefined)) as { code?: string } | undefined;
    return body?.code === "name_taken";
  };
  const run = (async () => {
    while (!isOver) {
      const name = `${prefix}-${number}`;
      const sinceMs = performance.now();
      if (await attempt(name)) {
        acknowledged.push(name);
        number += 1;
      }
      longestMs = Math.max(longestMs, performance.now() - sinceMs);
      await delay(50);
    }
  })();
  return {
    acknowledged,
    async more(count: number): Promise<void> {
      const from = acknowledged.length;
      await until("more writes", limitMs, async () =>
        acknowledged.length >= from + count ? true : undefined,
      );
    },
    longest(what: string): void {
      console.log(`# ${what}: ${Math.round(longestMs)} ms for the slowest try`);
      longestMs = 0;
    },
    async [Symbol.asyncDispose]() {
      isOver = true;
      await run;
    },
  };
}

async function appsOf(host: RegionHost): Promise<string[]> {
  return JSON.parse(done(await hearth(host, "apps", "--json"))).map(({ name }: Json) => name);
}

/** Repeated until the bus goes on without the node, as an operator does who is told that it does not yet. */
const remove = (by: RegionHost, gone: string) =>
  until("its server is out", limitMs, async () => {
    const { code, stdout } = await hearth(by, "node", "remove", gone, "--json");
    return code === 0 && JSON.parse(stdout).bus !== "leaving" ? true : undefined;
  });

describe("hosts of the bus that are removed", { timeout: 600_000 }, () => {
  before(async () => {
    region = await regionHosts(4);
    const [a, b, c, d] = region.hosts;
    assert.ok(a && b && c && d);
    hosts = [a, b, c, d];
    done(await a.hearth(["up"]));
    token = readFileSync(join(a.dataDir, "token"), "utf8").trim();
  });
  after(() => region[Symbol.asyncDispose]());

  test("the only server of the bus is not removed", async () => {
    const [a, b, c] = hosts;
    const { code, stderr } = await hearth(a, "node", "remove", await idOf(a));
    assert.equal(code, 1);
    assert.match(stderr, /has the only server of the bus/);
    done(await b.hearth(["join", await invite("--api", "--bus")]));
    done(await c.hearth(["join", await invite("--bus")]));
    await copies(a, 3);
    await onlyServers([a, b, c]);
  });

  test("a dead one is out with its secret, under writes, and its return changes nothing", async () => {
    const [a, b, c] = hosts;
    const gone = await idOf(c);
    const old = secretOf(c);
    assert.equal(secretOf(a), old);
    const before = [a, b].flatMap(serversOn);
    await using writes = writeThrough(b, "dead");
    await writes.more(5);
    await c.kill();
    await writes.more(5);
    writes.longest("a bus host is lost");
    await remove(a, gone);
    await onlyServers([a, b]);
    await writes.more(5);
    writes.longest("its secret is replaced");
    const now = secretOf(a);
    assert.notEqual(now, old);
    assert.equal(secretOf(b), now);
    assert.equal(secretOf(c), old);
    await until("no server is older than the secret", limitMs, async () =>
      [a, b].flatMap(serversOn).some((pid) => before.includes(pid)) ? undefined : true,
    );
    // Once more is no fault.
    done(await hearth(b, "node", "remove", gone));

    await c.hearth(["up"]);
    await until("its agent has found out", limitMs, async () => {
      const { problems = [] } = (await nodeOf(c)) ?? {};
      const says = problems.some((text: string) => text.includes("refuse this host's keys"));
      // Before it has, its server runs: then it is alone.
      if (!says && hasServer(c)) {
        const seen = await serversSeenBy(c, [a, b, c]).catch(() => undefined);
        assert.deepEqual(seen?.connections.get(gone) ?? [], [], "it has no route");
        assert.deepEqual(seen?.ids ?? [], [], "it is in no group");
      }
      return says && !hasServer(c) ? true : undefined;
    });
    const { healthy, findings } = await c.doctor({ HEARTH_TOKEN: token });
    assert.equal(healthy, false);
    assert.match(JSON.stringify(findings), /refuse this host's keys/);
    await onlyServers([a, b]);
    const listed = JSON.parse(done(await hearth(a, "node", "list", "--json")));
    assert.equal(
      listed.some(({ node_id }: Json) => node_id === gone),
      false,
    );
    const refused = await hearth(a, "node", "remove", await idOf(b));
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /one of the last two servers of the bus/);
    await writes.more(5);
    const { acknowledged } = writes;
    await writes[Symbol.asyncDispose]();
    const apps = await appsOf(a);
    assert.deepEqual(
      acknowledged.filter((name) => !apps.includes(name)),
      [],
    );
  });

  test("another host takes its place under the new secret", async () => {
    const [a, b, , d] = hosts;
    await using writes = writeThrough(a, "third");
    done(await d.hearth(["join", await invite("--bus")]));
    await copies(a, 3);
    await onlyServers([a, b, d]);
    assert.equal(secretOf(d), secretOf(a));
    await writes.more(5);
  });

  test("the first host of the region, alive, stops its server and says why, and the others go on", async () => {
    const [a, b, , d] = hosts;
    const gone = await idOf(a);
    const old = secretOf(a);
    await using writes = writeThrough(b, "alive");
    await writes.more(5);
    await remove(b, gone);
    await until("its server has ended", limitMs, async () => (hasServer(a) ? undefined : true));
    await onlyServers([b, d]);
    await writes.more(5);
    writes.longest("the first host is removed");
    const { findings, healthy } = await a.doctor({ HEARTH_TOKEN: token });
    assert.equal(healthy, false);
    assert.match(JSON.stringify(findings), /This host was removed from the region/);
    assert.notEqual(secretOf(b), old);
    assert.equal(secretOf(d), secretOf(b));
    assert.equal(secretOf(a), old);
    const { acknowledged } = writes;
    await writes[Symbol.asyncDispose]();
    const apps = await appsOf(b);
    assert.deepEqual(
      acknowledged.filter((name) => !apps.includes(name)),
      [],
    );
    assert.ok(apps.includes("dead-0") && apps.includes("third-0"));
  });
});
