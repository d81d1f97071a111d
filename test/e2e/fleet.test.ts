/** Three hosts on this machine, two of which serve the API: real services, real machines, and what can befall them. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import {
  type FleetHost,
  type Json,
  type RunningFleet,
  repositoryRoot,
  startFleet,
  until,
} from "@hearth/testkit";
import { startLoad } from "./fleet-load.ts";

const image = "demo:latest";
const app = "fleet";
/** An answer takes no longer than this, whatever is broken: it is an answer or an error, never a hang. */
const answerLimitMs = 30_000;

let fleet: RunningFleet;
let one: FleetHost;
let two: FleetHost;
let three: FleetHost;
const machines = new Map<FleetHost, Json>();

const call = (api: FleetHost, method: string, path: string, body?: unknown) =>
  fleet.region.call(api, method, path, { body, limitMs: answerLimitMs });

async function list(api: FleetHost): Promise<Json[]> {
  const { status, body } = await call(api, "GET", `/v1/apps/${app}/machines`);
  assert.equal(status, 200, JSON.stringify(body));
  return body;
}

/** The bits of the host in the machine's address. */
const hostBits = ({ private_ip }: Json): string => private_ip.split(":")[3];

async function ps(api: FleetHost): Promise<string[]> {
  const environment = [`HEARTH_API_URL=${api.apiUrl}`, `HEARTH_TOKEN=${fleet.region.token}`];
  const command = ["env", ...environment, join(repositoryRoot, "cli/bin/hearth"), "ps", "--all", "--json"];
  const { code, stdout, stderr } = await api.run(command);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout).map(({ id }: Json) => id);
}

describe("a fleet", { timeout: 900_000 }, () => {
  before(async () => {
    fleet = await startFleet({ hosts: 3, apis: 2, buses: 3 });
    [one, two, three] = [fleet.host(1), fleet.host(2), fleet.host(3)];
    execFileSync("bash", ["scripts/demo-image.sh"], { cwd: repositoryRoot, stdio: "ignore" });
    await fleet.region.importImage(join(repositoryRoot, ".hearth/demo/demo.tar"), image);
    const { status } = await call(one, "POST", "/v1/apps", { app_name: app, org_slug: "personal" });
    assert.equal(status, 201);
  });
  afterEach(async () => await fleet.heal());
  after(async () => await fleet?.[Symbol.asyncDispose]());

  test("machines created through both APIs are spread over the hosts, and each API lists all", async () => {
    const created: Json[] = [];
    for (const api of [one, two, one]) {
      const { status, body } = await call(api, "POST", `/v1/apps/${app}/machines`, { config: { image } });
      assert.equal(status, 200, JSON.stringify(body));
      const wait = `/v1/apps/${app}/machines/${body.id}/wait?state=started&timeout=60`;
      const waited = await fleet.region.call(api === one ? two : one, "GET", wait);
      assert.equal(waited.status, 200, JSON.stringify(waited.body));
      created.push(body);
    }
    const ids = created.map(({ id }) => id).sort();
    for (const api of fleet.region.apis) {
      assert.deepEqual((await list(api)).map(({ id }) => id).sort(), ids);
      assert.deepEqual((await ps(api)).sort(), ids);
    }
    assert.equal(new Set(created.map(hostBits)).size, 3, "each host runs one");
    for (const host of fleet.hosts) {
      assert.equal(host.vmPids().length, 1);
      const { stdout } = await host.run(["ip", "-6", "route"]);
      const machine = created.find(({ private_ip }) => stdout.includes(`${private_ip} dev`));
      assert.ok(machine !== undefined, `${host.name}: ${stdout}`);
      machines.set(host, machine);
    }
  });

  test("a host that is cut off is said to be unreachable, with what was last known, and comes back", async () => {
    const machine = machines.get(three);
    const path = `/v1/apps/${app}/machines/${machine.id}`;
    await fleet.isolate(three);
    for (const api of [one, two]) {
      const record = await until("the host is unreachable", 40_000, async () => {
        const { status, body } = await call(api, "GET", path);
        assert.equal(status, 200);
        return body.host_status === "unreachable" ? body : undefined;
      });
      assert.equal(record.state, "started");
      assert.equal(record.private_ip, machine.private_ip);
      // The bus may have had its leader there, and a new one takes longer than a host may be silent.
      await until("the others are heard", 40_000, async () => {
        const others = (await list(api)).filter(({ id }) => id !== machine.id);
        return others.every(({ host_status }) => host_status === "ok") ? true : undefined;
      });
    }
    const unheard = await call(one, "POST", `${path}/exec`, { command: ["true"] });
    assert.match(unheard.body.code, /^(unavailable|deadline_exceeded)$/, JSON.stringify(unheard));
    assert.ok((await fleet.dropped()) > 0, "the cut was felt");
    // A region that has just lost the leader of its bus asks to try again, and nothing else.
    const { status, body } = await until("an answer to a create", 60_000, async () => {
      const request = { config: { image }, skip_launch: true };
      const answer = await call(two, "POST", `/v1/apps/${app}/machines`, request);
      return answer.status === 503 ? undefined : answer;
    });
    assert.equal(status, 200, JSON.stringify(body));
    assert.notEqual(hostBits(body), hostBits(machine), "nothing is placed on a host that is not heard");
    await fleet.heal();
    await until("all is well", 60_000, async () => {
      const statuses = (await Promise.all(fleet.region.apis.map(list)))
        .flat()
        .map(({ host_status }) => host_status);
      return statuses.every((status) => status === "ok") ? true : undefined;
    });
    const exec = await until("a program in the machine", 30_000, async () => {
      const answer = await call(two, "POST", `${path}/exec`, { command: ["echo", "here"] });
      return answer.status === 200 ? answer : undefined;
    });
    assert.equal(exec.body.stdout, "here\n");
  });

  test("any one process of any one host may be killed under load, and what was acknowledged is there once", async (t) => {
    await fleet.region.settled();
    const load = startLoad({ region: fleet.region, app, image });
    let progress = 0;
    for (const host of fleet.hosts)
      for (const service of ["regional", "worker", "images", "nats-server", "host-agent"] as const) {
        if (host.pids(service).length === 0) continue;
        await host.kill(service);
        if (service === "host-agent") await fleet.region.start(host);
        else await until(`${service} on ${host.name}`, 60_000, async () => host.pids(service)[0]);
        await fleet.region.settled();
        progress = await until("work goes on", 60_000, async () => {
          const { length } = load.acknowledged;
          return length > progress ? length : undefined;
        });
      }
    await load.stop();
    const { length } = load.acknowledged;
    t.diagnostic(`${length} creates acknowledged; ${load.tooEarly.length} reads came before the news of one`);
    assert.deepEqual(load.violations, []);
    for (const api of fleet.region.apis) {
      await until(`all of it at ${api.name}`, 30_000, async () => {
        const ids = (await list(api)).map(({ id }) => id);
        return load.acknowledged.every((id) => ids.filter((other) => other === id).length === 1)
          ? true
          : undefined;
      });
    }
    for (const [host, { id, instance_id }] of machines) {
      const { body } = await call(one, "GET", `/v1/apps/${app}/machines/${id}`);
      assert.deepEqual([body.state, body.instance_id], ["started", instance_id], host.name);
      assert.equal(host.vmPids().length, 1, "the machine that it ran before");
    }
  });

  test("a host that lost its power starts what it ran when it is back", async () => {
    const { id } = machines.get(two);
    const [vm = 0] = two.vmPids();
    await two.lose();
    assert.throws(() => process.kill(vm, 0), { code: "ESRCH" });
    const seen = await call(one, "GET", `/v1/apps/${app}/machines/${id}`);
    assert.equal(seen.status, 200);
    await fleet.region.start(two);
    await until("the machine runs again", 120_000, async () => {
      const { body } = await call(one, "GET", `/v1/apps/${app}/machines/${id}`);
      return body.state === "started" && body.host_status === "ok" && two.vmPids().length === 1
        ? true
        : undefined;
    });
  });
});
