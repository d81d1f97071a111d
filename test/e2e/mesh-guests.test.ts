/** Machines on two hosts, which talk over the mesh when they are of one network and not when they are not. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import {
  type FleetHost,
  type Json,
  type RunningFleet,
  repositoryRoot,
  startFleet,
  until,
} from "@hearth/testkit";

const image = "demo:latest";
const root = process.getuid?.() === 0 ? false : "a fleet needs root";
const kib = 1024;

let fleet: RunningFleet;
let one: FleetHost;
let two: FleetHost;
/** By app and host. */
const machines = new Map<string, Json>();
const machine = (app: string, host: FleetHost): Json => machines.get(`${app} ${host.name}`);

const call = (method: string, path: string, body?: unknown) =>
  fleet.region.call(one, method, path, { body, limitMs: 90_000 });

async function create(app: string, host: FleetHost): Promise<void> {
  const other = fleet.region.nodeId(host === one ? two : one);
  await call("POST", `/v1/nodes/${other}/cordon`);
  const { status, body } = await call("POST", `/v1/apps/${app}/machines`, { config: { image } });
  await call("POST", `/v1/nodes/${other}/uncordon`);
  assert.equal(status, 200, JSON.stringify(body));
  const waited = await call("GET", `/v1/apps/${app}/machines/${body.id}/wait?state=started&timeout=60`);
  assert.equal(waited.status, 200, JSON.stringify(waited.body));
  machines.set(`${app} ${host.name}`, body);
}

async function inside(app: string, host: FleetHost, command: string): Promise<{ code: number; out: string }> {
  const path = `/v1/apps/${app}/machines/${machine(app, host).id}/exec`;
  const { status, body } = await call("POST", path, { command: ["sh", "-c", command], timeout: 60 });
  assert.equal(status, 200, JSON.stringify(body));
  return { code: body.exit_code, out: `${body.stdout}${body.stderr}` };
}

const ping = async (app: string, from: FleetHost, address: string): Promise<boolean> =>
  (await inside(app, from, `ping6 -c 2 -W 2 ${address}`)).code === 0;

/** Not by wget, which is not well in a static busybox; the rest of an answer is what comes after its head. */
async function download(from: FleetHost, address: string, path: string, then: string): Promise<string> {
  const ask = `printf 'GET ${path} HTTP/1.0\\r\\n\\r\\n' | timeout 50 nc -w 20 ${address} 8080`;
  return (await inside("here", from, `${ask} | sed '1,/^\\r*$/d' | ${then}`)).out.trim();
}

describe("machines on two hosts", { skip: root, timeout: 600_000 }, () => {
  before(async () => {
    fleet = await startFleet({ hosts: 2, apis: 1, buses: 1 });
    [one, two] = [fleet.host(1), fleet.host(2)];
    execFileSync("bash", ["scripts/demo-image.sh"], { cwd: repositoryRoot, stdio: "ignore" });
    await fleet.region.importImage(join(repositoryRoot, ".hearth/demo/demo.tar"), image);
    for (const [app, org_slug, network] of [
      ["here", "personal", "blue"],
      ["there", "personal", "green"],
    ]) {
      const { status, body } = await call("POST", "/v1/apps", { app_name: app, org_slug, network });
      assert.equal(status, 201, JSON.stringify(body));
    }
    await until("the mesh is there", 40_000, async () => {
      const { nodes } = (await call("GET", "/v1/mesh")).body;
      return nodes.every(({ peers }: Json) => peers[0]?.state === "connected") ? true : undefined;
    });
    for (const host of fleet.hosts) await create("here", host);
    await create("there", two);
  });
  after(async () => await fleet?.[Symbol.asyncDispose]());

  test("machines of one network reach each other over the mesh, both ways", async () => {
    const [a, b] = [machine("here", one).private_ip, machine("here", two).private_ip];
    assert.notEqual(a.split(":")[3], b.split(":")[3], "they are on two hosts");
    assert.ok(await ping("here", one, b));
    assert.ok(await ping("here", two, a));
  });

  test("machines of two networks do not, in neither direction", async () => {
    assert.ok(!(await ping("here", one, machine("there", two).private_ip)));
    assert.ok(!(await ping("there", two, machine("here", one).private_ip)));
    for (const host of fleet.hosts) {
      const { nodes } = (await call("GET", "/v1/mesh")).body;
      const { address } = nodes.find(({ node_id }: Json) => node_id === fleet.region.nodeId(host));
      assert.ok(!(await ping("here", one, address)) || host === one, "no host of the mesh answers a guest");
    }
  });

  test("machines of paired networks do, on either host, until they are unpaired", async () => {
    const pairs = "/v1/orgs/personal/networks/blue/pairs/green";
    const [a, c] = [machine("here", one).private_ip, machine("there", two).private_ip];
    const reach = async (): Promise<readonly boolean[]> => [
      await ping("here", one, c),
      await ping("there", two, a),
    ];
    const become = (expected: boolean) =>
      until(`they reach each other: ${expected}`, 30_000, async () =>
        (await reach()).every((one) => one === expected) ? true : undefined,
      );
    assert.ok((await call("PUT", pairs)).status < 300);
    await become(true);
    assert.ok((await call("DELETE", pairs)).status < 300);
    await become(false);
  });

  test("a page and a large file come over it, also where the way takes less than a machine's own link", async () => {
    const address = machine("here", two).private_ip;
    const get = (path: string, then: string) => download(one, address, path, then);
    assert.equal(await get("/", "head -n 1"), "<!doctype html>");
    await inside("here", two, `dd if=/dev/zero of=/www/large bs=1k count=${4 * kib}`);
    assert.equal(Number(await get("/large", "wc -c")), 4 * kib * kib);
    await two.run(["ip", "link", "set", "dev", "eth0", "mtu", "1400"]);
    await until("the route says so", 30_000, async () =>
      (await one.run(["ip", "-6", "route"])).stdout.includes(" mtu lock 1328") ? true : undefined,
    );
    assert.equal(Number(await get("/large", "wc -c")), 4 * kib * kib);
    // The first tells one machine that it was too big, and the next, on its way back, the other.
    const big = await inside("here", one, `ping6 -c 4 -W 3 -s 1350 ${address}`);
    assert.equal(big.code, 0, big.out);
  });

  test("a large file comes over a way that takes less than either host knows, and says nothing of it", async () => {
    await two.run(["ip", "link", "set", "dev", "eth0", "mtu", "1500"]);
    await until("no route is narrow", 30_000, async () =>
      (await one.run(["ip", "-6", "route"])).stdout.includes(" mtu lock ") ? undefined : true,
    );
    await fleet.narrow(one, two, 1_400);
    for (const [from, to] of [
      [one, two],
      [two, one],
    ] as const) {
      const address = machine("here", to).private_ip;
      await inside("here", to, `dd if=/dev/urandom of=/www/bulk bs=1k count=${kib}`);
      const sum = (await inside("here", to, "md5sum </www/bulk")).out.trim();
      const big = await inside("here", from, `ping6 -c 2 -W 2 -s 1350 ${address}`);
      assert.notEqual(big.code, 0, `what is big vanishes: ${big.out}`);
      assert.ok(await ping("here", from, address), "what is small does not");
      assert.equal(await download(from, address, "/bulk", "md5sum"), sum);
    }
    assert.ok((await fleet.dropped()) > 0);
    await fleet.heal();
  });
});
