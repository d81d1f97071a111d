import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { test } from "node:test";
import type { Machine, Target } from "@hearth/sdk";
import { type RollingUpdate, rollMachines } from "./rolling-update.ts";
import { type CliHost, cliHost } from "./testing/hearth-process.ts";

const check = { web: { type: "tcp", port: 80 } };

/** Machines of the app `web` that have a check, in the order of their names. */
async function appOf(host: CliHost, names: readonly string[], more: object = {}): Promise<string[]> {
  const { api } = host;
  const call = async (path: string, body: object): Promise<{ id: string }> => {
    const headers = { authorization: `Bearer ${api.token}`, "content-type": "application/json" };
    const answer = await fetch(`${api.apiUrl}${path}`, {
      method: "POST",
      headers,
      body: JSON.stringify(body),
    });
    return (await answer.json()) as { id: string };
  };
  await call("/v1/apps", { app_name: "web" });
  const ids: string[] = [];
  for (const name of names) {
    const config = { image: "web:1", checks: check, env: { KEPT: "yes" }, ...more };
    ids.push((await call("/v1/apps/web/machines", { name, config })).id);
  }
  const started = await host.hearth(["start", ...ids]);
  assert.equal(started.code, 0, started.stderr);
  return ids;
}

interface Report {
  readonly name: string;
  readonly outcome: string;
  readonly version: string;
  readonly previous_version: string;
  readonly image: string;
  readonly error?: { readonly code: string; readonly message: string };
}

async function update(host: CliHost, ...args: string[]) {
  const ended = await host.hearth(["update", "--app", "web", "--json", ...args]);
  const { ok, machines } = JSON.parse(ended.stdout || "{}") as { ok: boolean; machines: Report[] };
  return { ...ended, ok, machines, outcomes: machines?.map(({ name, outcome }) => `${name} ${outcome}`) };
}

const updatesOf = (host: CliHost): string[] =>
  host.api.calls
    .filter(({ method, path }) => /\/machines\/[0-9a-f]{14}(\/wait)?$/.test(path) && method !== "DELETE")
    .map(({ method, path }) => `${method} ${path.split("/")[5]}${path.endsWith("/wait") ? " wait" : ""}`);

test("machines of an app are replaced one after the other, each waited for, and what is not named stays", async () => {
  await using host = await cliHost();
  const ids = await appOf(host, ["one", "two"]);
  host.api.calls.length = 0;
  const { ok, code, outcomes, machines } = await update(host, "--image", "web:2", "-e", "LEVEL=debug");
  assert.deepEqual([ok, code], [true, 0]);
  assert.deepEqual(outcomes, ["one updated", "two updated"]);
  assert.ok(
    machines.every(({ version, previous_version, image }) => version > previous_version && image === "web:2"),
  );
  const [one, two] = ids;
  assert.deepEqual(updatesOf(host), [
    ...[`POST ${one}`, `GET ${one} wait`, `GET ${one}`],
    ...[`POST ${two}`, `GET ${two} wait`, `GET ${two}`],
  ]);
  const { config } = host.record(one ?? "") ?? {};
  assert.deepEqual(config?.env, { KEPT: "yes", LEVEL: "debug" });
  assert.equal(host.api.calls.findIndex(({ path }) => path === "/v1/images/pull") >= 0, true);
});

test("a version that cannot start ends the update at its first machine, and the others are not touched", async () => {
  await using host = await cliHost();
  const broken = { init: { exec: ["sleep", "1000"] } };
  const ids = await appOf(host, ["one", "two"], broken);
  // The fake runs what the configuration says, so a broken version is one whose PATH has no program.
  const { code, ok, outcomes, machines } = await update(host, "-e", "PATH=/nowhere");
  assert.deepEqual([code, ok], [1, false]);
  assert.deepEqual(outcomes, ["one rolled_back", "two untouched"]);
  assert.equal(machines[0]?.version, machines[0]?.previous_version);
  assert.equal(machines[0]?.error?.code, "update_rolled_back");
  for (const id of ids) assert.equal(host.record(id)?.config.env?.PATH, undefined);
});

test("a version whose checks do not pass in time goes back, and the report for people says so", async () => {
  await using host = await cliHost();
  const [one = ""] = await appOf(host, ["one", "two"]);
  const ended = await host.hearth([
    "update",
    "--app",
    "web",
    "--image",
    "web:2",
    "-e",
    "UNHEALTHY=1",
    "--wait",
    "1",
  ]);
  assert.equal(ended.code, 1);
  assert.match(ended.stdout, /one +rolled back +\S+ +web:1\n/);
  assert.match(ended.stdout, /two +untouched +\S+ +web:1\n/);
  assert.match(ended.stderr, /one: Its checks did not pass within 1 s \(web is critical: It is critical\.\)/);
  assert.match(ended.stderr, /1 of 2 machines were not touched/);
  assert.equal(host.record(one)?.config.image, "web:1");
  assert.equal(host.record(one)?.state, "started");
});

test("machines at rest come last, and get the new version without being started", async () => {
  await using host = await cliHost();
  const [one = "", two = ""] = await appOf(host, ["one", "two"]);
  await host.hearth(["stop", one]);
  const { outcomes } = await update(host, "--image", "web:2");
  assert.deepEqual(outcomes, ["one updated_at_rest", "two updated"]);
  assert.equal(host.record(one)?.state, "stopped");
  assert.ok(updatesOf(host).indexOf(`POST ${two}`) < updatesOf(host).indexOf(`POST ${one}`));
});

test("no more machines are on their way than may be, and so many are", async () => {
  const machine = (id: string) => ({
    id,
    name: id,
    state: "started",
    instance_id: "1",
    version: "1",
    checks: [],
  });
  const begun = new Map<string, () => void>();
  const told = new EventEmitter();
  const machines = {
    update: (target: Target) =>
      new Promise((resolve) => {
        const done = { ...machine(target.id), instance_id: "2", config: { image: "web:2" } };
        begun.set(target.id, () => resolve(done));
        told.emit("begun");
      }),
    wait: async () => undefined,
    get: async ({ id }: Target) => ({ ...machine(id), instance_id: "2", config: {} }),
  };
  const names = ["a", "b", "c", "d", "e"];
  const rolled = rollMachines({
    client: { machines } as unknown as RollingUpdate["client"],
    ...{ app: "web", atOnce: 2, limitMs: 60_000, change: (config) => config, onStep: () => undefined },
    machines: names.map((id) => ({ ...machine(id), config: { image: "web:1" } })) as unknown as Machine[],
  });
  for (const [index, name] of names.entries()) {
    const there = (): string[] => [...begun.keys()];
    while (there().length < Math.min(index + 2, names.length)) await once(told, "begun");
    assert.deepEqual(there(), names.slice(0, index + 2));
    begun.get(name)?.();
  }
  assert.deepEqual(new Set((await rolled).map(({ outcome }) => outcome)), new Set(["updated"]));
});

test("with immediate all of them are updated", async () => {
  await using host = await cliHost();
  await appOf(host, ["one", "two"]);
  const { outcomes } = await update(host, "--image", "web:2", "--strategy", "immediate");
  assert.deepEqual(outcomes, ["one updated", "two updated"]);
});

test("a machine that somebody else has the lease of is left alone", async () => {
  await using host = await cliHost();
  const [one = ""] = await appOf(host, ["one"]);
  const lease = await host.hearth(["lease", "acquire", one]);
  assert.equal(lease.code, 0, lease.stderr);
  const { code, outcomes, machines } = await update(host, "--image", "web:2");
  assert.equal(code, 1);
  assert.deepEqual(outcomes, ["one untouched"]);
  assert.equal(machines[0]?.error?.code, "lease_held");
});

test("an app with one machine is told what its requests do meanwhile, and calls that say too little are refused", async () => {
  await using host = await cliHost();
  const services = [{ protocol: "tcp", internal_port: 80, ports: [{ port: 80, handlers: ["http"] }] }];
  await appOf(host, ["one"], { services, checks: {} });
  const { stderr } = await host.hearth(["update", "--app", "web", "--image", "web:2"]);
  assert.match(stderr, /requests wait at the front door while it is replaced/);
  assert.match(stderr, /no health checks/);
  for (const args of [[], ["--app", "web"], ["--app", "web", "-e", "A=1", "--max-unavailable", "0"]])
    assert.equal((await host.hearth(["update", ...args])).code, 2, args.join(" "));
});
