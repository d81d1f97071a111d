/**
 * A region of three hosts with real machines, of which the second has a clock that is an hour ahead all the time, and
 * what can befall its bus and its hosts. What was acknowledged stays, nothing runs twice, and each refusal has a name.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type Bus, connectBus, stateHealth } from "@hearth/cluster";
import {
  type FleetHost,
  demoImage as image,
  type Json,
  type RunningFleet,
  repositoryRoot,
  startFleet,
  until,
} from "@hearth/testkit";
import { jetstreamManager } from "@nats-io/jetstream";

const app = "faults";
const path = `/v1/apps/${app}/machines`;
const networks = "/v1/orgs/personal/networks";
const answerLimitMs = 30_000;
const limitMs = 90_000;
const busPort = 4222;
const hourMs = 3_600_000;
const stateStream = "HEARTH_STATE";

let fleet: RunningFleet;
let one: FleetHost;
let two: FleetHost;
let three: FleetHost;
/** Has to be on another host when its own is lost; the others stay where they are. */
let moves: Json;
let stays: Json;

const call = (api: FleetHost, method: string, where: string, body?: unknown) =>
  fleet.region.call(api, method, where, { body, limitMs: answerLimitMs });
/** A region whose bus has just had another leader asks to try again, and nothing else. */
const ok = async (api: FleetHost, method: string, where: string, body?: unknown): Promise<Json> => {
  const answer = await until(`${method} ${where}`, limitMs, async () => {
    const given = await call(api, method, where, body);
    const isCertain = given.body?.details?.in_doubt !== true;
    return given.status === 503 && isCertain ? undefined : given;
  });
  assert.ok(answer.status < 300, `${method} ${where}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body;
};
/** The first answer that is not an error of the region's own. */
const eventually = (api: FleetHost, method: string, where: string, body?: unknown) =>
  until(`${method} ${where}`, limitMs, async () => {
    const answer = await call(api, method, where, body);
    return answer.status >= 500 ? undefined : answer;
  });
const started = async (api: FleetHost, id: string) =>
  await until(`${id} runs`, limitMs, async () => {
    const { body } = await call(api, "GET", `${path}/${id}`);
    return body?.state === "started" && body.host_status === "ok" ? body : undefined;
  });
const runsOn = (id: string): FleetHost[] =>
  fleet.hosts.flatMap((host) =>
    host
      .processes()
      .flatMap(({ args }) =>
        args[0]?.includes("qemu-system") && args.join(" ").includes(`/m/${id}/`) ? [host] : [],
      ),
  );
const create = (api: FleetHost, config: Json, more: Json = {}) =>
  ok(api, "POST", path, {
    config: { image, guest: { cpu_kind: "shared", cpus: 1, memory_mb: 128 }, ...config },
    ...more,
  });
const hostOf = ({ placement }: Json) =>
  fleet.hosts.find((host) => fleet.region.nodeId(host) === placement.node_id);

/** As the agent of the first host, who keeps the stream. */
async function keeper(): Promise<Bus> {
  const seedPath = join(one.files.dataDir, "credentials/keeper.seed");
  return await connectBus({ servers: busServers(one), seedPath, identity: "keeper" });
}
const busServers = ({ address }: FleetHost): string => `nats://${address}:${busPort}`;

/** Nobody starts a server of the bus meanwhile. */
async function withoutBus(act: () => void): Promise<void> {
  for (const host of fleet.hosts) await host.pause("host-agent");
  for (const host of fleet.hosts) await host.kill("nats-server");
  try {
    act();
  } finally {
    for (const host of fleet.hosts) await host.resume("host-agent");
  }
}

describe("a fleet with a clock an hour off", { timeout: 600_000 }, () => {
  before(async () => {
    fleet = await startFleet({ hosts: 3, apis: 2, buses: 3 });
    [one, two, three] = [fleet.host(1), fleet.host(2), fleet.host(3)];
    execFileSync("bash", ["scripts/demo-image.sh"], { cwd: repositoryRoot, stdio: "ignore" });
    await fleet.region.importImage(join(repositoryRoot, ".hearth/demo/demo.tar"), image);
    await ok(one, "POST", "/v1/apps", { app_name: app, org_slug: "personal" });
    await two.lose();
    await two.boot({ clockSkewMs: hourMs });
    await fleet.region.start(two);
    await fleet.region.settled();
    for (const api of [one, two])
      await until("both APIs have heard every node", limitMs, async () => {
        const { status, body } = await call(api, "GET", "/v1/nodes");
        return status === 200 && body.length === 3 && body.every(({ state }: Json) => state === "ready")
          ? true
          : undefined;
      });
    // All copies are current, and still a write may wait for who leads them.
    for (const [index, api] of [one, two].entries())
      await until("the bus takes a write", limitMs, async () => {
        const made = { app_name: `settled-${index}`, org_slug: "personal" };
        const { status, body } = await call(api, "POST", "/v1/apps", made);
        return status === 201 || body?.code === "name_taken" ? true : undefined;
      });
  });
  after(async () => await fleet?.[Symbol.asyncDispose]());

  test("a server that came back leads the state, and writes through every API are answered", async () => {
    await using bus = await keeper();
    const leads = fleet.region.nodeId(two);
    await until("the one that came back leads", limitMs, async () => {
      if ((await stateHealth(bus).catch(() => undefined))?.leader === leads) return true;
      const stepDown = `$JS.API.STREAM.LEADER.STEPDOWN.${stateStream}`;
      await bus.connection.request(stepDown, "", { timeout: 2_000 }).catch(() => undefined);
      await delay(1_000);
      return undefined;
    });
    for (const [index, api] of [one, two].entries())
      await ok(api, "POST", "/v1/apps", { app_name: `answered-${index}`, org_slug: "personal" });
  });

  test("both APIs place machines on all hosts, agree on them and name the clock", async () => {
    const { stdout } = await two.run(["date", "+%s"]);
    assert.ok(Number(stdout) * 1_000 - Date.now() > hourMs - 60_000, "its clock is off");
    const made: Json[] = [];
    for (const api of [one, two, one]) {
      const machine = await create(api, {});
      made.push(machine);
      // The next is placed by what its API has heard by then.
      for (const each of [one, two]) await started(each, machine.id);
    }
    assert.equal(new Set(made.map(hostOf)).size, 3, "each host has one");
    const ids = made.map(({ id }) => id).sort();
    for (const api of [one, two]) {
      const listed = (await ok(api, "GET", path)).map(({ id }: Json) => id);
      assert.deepEqual(listed.sort(), ids);
      const [first] = ids;
      const { stdout: said } = await ok(api, "POST", `${path}/${first}/exec`, { command: ["echo", "here"] });
      assert.equal(said, "here\n");
    }
    const nodes: Json[] = await ok(one, "GET", "/v1/nodes");
    const warned = nodes.filter(({ warnings }) => warnings.some((text: string) => /clock is/.test(text)));
    assert.deepEqual(
      warned.map(({ node_id }) => node_id),
      [fleet.region.nodeId(two)],
    );
    const key = { method: "POST", headers: { "idempotency-key": "k" } };
    const answers: Json[] = [];
    for (const api of [one, two]) {
      const answer = await fetch(`${api.apiUrl}${path}`, {
        ...key,
        headers: {
          ...key.headers,
          authorization: `Bearer ${fleet.region.token}`,
          "content-type": "application/json",
        },
        body: JSON.stringify({ config: { image }, skip_launch: true }),
        signal: AbortSignal.timeout(answerLimitMs),
      });
      answers.push(await answer.json());
    }
    assert.equal(answers[0].id, answers[1].id, "one key, one machine");
    for (const { id } of made.slice(1)) await ok(two, "DELETE", `${path}/${id}?force=true`);
    [stays] = made;
  });

  test("a bus without its store gets back all that was acknowledged, by those who log in with keys", async () => {
    await ok(two, "POST", "/v1/apps", { app_name: "kept", org_slug: "personal" });
    await ok(two, "POST", "/v1/apps", { app_name: "gone", org_slug: "personal" });
    await until("the other API has heard of both", limitMs, async () => {
      const heard = await Promise.all(["kept", "gone"].map((name) => call(one, "GET", `/v1/apps/${name}`)));
      return heard.every(({ status }) => status === 200) ? true : undefined;
    });
    await ok(one, "DELETE", "/v1/apps/gone");
    const named = await create(two, {}, { name: "kept", skip_launch: true });
    for (const name of ["blue", "green"]) await ok(one, "POST", networks, { name });
    await ok(one, "PUT", `${networks}/blue/pairs/green`);
    const [running] = runsOn(stays.id);
    await withoutBus(() => {
      for (const { files } of fleet.hosts) {
        const store = join(files.dataDir, "nats/cluster");
        assert.ok(readdirSync(store).length > 0);
        rmSync(store, { recursive: true });
      }
    });
    await fleet.region.settled(limitMs);
    for (const api of [one, two]) {
      assert.equal((await eventually(api, "GET", "/v1/apps/kept")).status, 200);
      assert.equal((await eventually(api, "GET", "/v1/apps/gone")).status, 404);
      assert.equal((await eventually(api, "GET", `${path}/${named.id}`)).status, 200);
      assert.match(
        JSON.stringify((await eventually(api, "GET", `${networks}/blue`)).body),
        /green/,
        "a pair",
      );
      await started(api, stays.id);
    }
    const again = await eventually(one, "POST", path, { name: "kept", config: { image }, skip_launch: true });
    assert.equal(again.body.code, "name_taken");
    const { restored_facts } = await ok(one, "GET", "/v1/health");
    const { restored_facts: other } = await ok(two, "GET", "/v1/health");
    assert.ok(restored_facts + other > 0, "something was put back");
    assert.deepEqual(runsOn(stays.id), [running], "its machine ran on");
  });

  test("a lease that the stream has lost starts nothing twice: its machine starts again where it was, the others run on", async () => {
    moves = await create(one, { restart_elsewhere: true });
    await started(one, moves.id);
    const [home] = runsOn(moves.id);
    assert.ok(home !== undefined);
    const others = runsOn(stays.id);
    const node = fleet.region.nodeId(home);
    const subject = `state.lease.${node}`;
    await using bus = await keeper();
    const manager = await jetstreamManager(bus.connection);
    const message = await manager.streams.getMessage(stateStream, { last_by_subj: subject });
    assert.ok(message !== null);
    await manager.streams.deleteMessage(stateStream, message.seq);
    // Nobody is told, so the node lets its right run out, and says then that it is back.
    await until("the lease is held again", limitMs, async () => {
      assert.ok(runsOn(moves.id).length <= 1);
      const now = await manager.streams.getMessage(stateStream, { last_by_subj: subject }).catch(() => null);
      if (now === null || now.seq <= message.seq) return undefined;
      return now.json<{ state: string }>().state === "held" ? true : undefined;
    });
    await started(two, moves.id);
    assert.deepEqual(runsOn(moves.id), [home]);
    assert.deepEqual(runsOn(stays.id), others);
  });

  test("a full bus refuses what is new by name, serves what it has, and goes on when there is room", async () => {
    await using bus = await keeper();
    const manager = await jetstreamManager(bus.connection);
    const { config, state } = await manager.streams.info(stateStream);
    const before = (await ok(one, "GET", "/v1/apps")).apps.length;
    await manager.streams.update(stateStream, { ...config, max_bytes: state.bytes + 20_000 });
    let made = 0;
    const refused = await until("it is full", limitMs, async () => {
      const { status, body } = await call(two, "POST", "/v1/apps", {
        app_name: `full-${made}`,
        org_slug: "personal",
      });
      if (status === 201) made += 1;
      return status >= 400 && status !== 503 ? { status, body } : undefined;
    });
    assert.deepEqual([refused.status, refused.body.code], [507, "bus_full"], JSON.stringify(refused.body));
    assert.ok(made > 0);
    assert.equal((await ok(one, "GET", "/v1/apps")).apps.length, before + made);
    await started(one, stays.id);
    const { stdout } = await ok(two, "POST", `${path}/${stays.id}/exec`, { command: ["echo", "here"] });
    assert.equal(stdout, "here\n");
    await manager.streams.update(stateStream, { ...config, max_bytes: -1 });
    const { status } = await eventually(two, "POST", "/v1/apps", { app_name: "room", org_slug: "personal" });
    assert.equal(status, 201);
    for (const api of [one, two])
      await until("all of it", limitMs, async () =>
        (await ok(api, "GET", "/v1/apps")).apps.length === before + made + 1 ? true : undefined,
      );
    await started(two, moves.id);
  });

  test("a drain whose API is killed goes on, and loses nothing", async () => {
    const [home] = runsOn(moves.id);
    assert.ok(home !== undefined);
    const node = fleet.region.nodeId(home);
    await ok(two, "POST", `/v1/nodes/${node}/drain`, {});
    await two.kill("regional");
    await until("it has moved", limitMs, async () => {
      const on = runsOn(moves.id);
      assert.ok(on.length <= 1, "it never runs twice");
      return on.length === 1 && on[0] !== home ? true : undefined;
    });
    await started(one, moves.id);
    const asked = await eventually(two, "POST", `/v1/nodes/${node}/drain`, {});
    assert.equal(asked.status, 200, JSON.stringify(asked.body));
    const { state } = await ok(one, "GET", `/v1/nodes/${node}`);
    assert.match(state, /drain|cordon/);
    const { status, body } = await eventually(two, "POST", `/v1/nodes/${node}/undrain`, {});
    assert.equal(status, 200, JSON.stringify(body));
    await started(two, stays.id);
  });

  test("a machine of a lost host starts on another one, and the key of a removed host is refused by the bus", async () => {
    moves ??= await create(one, { restart_elsewhere: true });
    stays ??= await create(one, {});
    for (const host of fleet.hosts) {
      const verb = host === three ? "undrain" : "drain";
      assert.equal(
        (await eventually(one, "POST", `/v1/nodes/${fleet.region.nodeId(host)}/${verb}`, {})).status,
        200,
      );
    }
    await until("all are on the third host", limitMs, async () =>
      runsOn(moves.id)[0] === three && runsOn(stays.id)[0] === three ? true : undefined,
    ).catch(async (error: unknown) => {
      const [nodes, machines] = [await call(two, "GET", "/v1/nodes"), await call(two, "GET", path)];
      throw new Error(JSON.stringify([nodes.body, machines.body]), { cause: error });
    });
    for (const host of [one, two])
      await eventually(one, "POST", `/v1/nodes/${fleet.region.nodeId(host)}/undrain`, {});
    await started(one, moves.id);
    const lost = fleet.region.nodeId(three);
    await three.lose();
    await until("it runs elsewhere", limitMs, async () => {
      const on = runsOn(moves.id);
      assert.ok(on.length <= 1);
      return on.length === 1 ? true : undefined;
    });
    await started(two, moves.id);
    const { body: left } = await eventually(one, "GET", `${path}/${stays.id}`);
    assert.equal(left.host_status, "unreachable", "the other one stays and says so");

    const kept = await call(one, "DELETE", `/v1/nodes/${lost}`);
    assert.deepEqual([kept.status, kept.body.code], [409, "conflict"], JSON.stringify(kept.body));
    const gone = await until("it is removed", limitMs, async () => {
      const answer = await call(one, "DELETE", `/v1/nodes/${lost}?force=true`);
      return answer.status === 200 ? answer.body : undefined;
    });
    assert.ok(gone.forgotten.includes(stays.id));
    const again = await eventually(one, "DELETE", `/v1/nodes/${lost}?force=true`);
    assert.deepEqual(again.body.forgotten, gone.forgotten, "who asks again is told the same");
    const seedPath = join(three.files.dataDir, "credentials/node.seed");
    await until("its key is refused", limitMs, async () => {
      try {
        const bus = await connectBus({ servers: busServers(one), seedPath, identity: lost });
        await bus.close();
        return undefined;
      } catch (error) {
        return (error as { code?: string }).code === "bus_unauthorized" ? true : undefined;
      }
    });
    assert.equal(runsOn(moves.id).length, 1);
  });
});
