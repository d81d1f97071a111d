import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { readNodeConfig } from "@hearth/cluster";
import { HearthError, type HearthErrorCode } from "@hearth/errors";
import { firewallTable, parseClusterPrefix, resolverAddress } from "@hearth/network";
import { agentDown } from "./control-client.ts";
import { socketPath } from "./host-agent.ts";
import { readIdentity } from "./node-identity.ts";
import { findProcesses } from "./process-identity.ts";
import { type TestHost, testHost } from "./testing/test-host.ts";

const is = (code: HearthErrorCode) => (error: unknown) => error instanceof HearthError && error.code === code;
const loopback = (): string => execFileSync("ip", ["-o", "addr", "show", "dev", "lo"], { encoding: "utf8" });
const mode = (path: string): string => (statSync(path).mode & 0o777).toString(8);

/** Processes, rules and run directory of this agent that are on the host. */
function leftOnHost(host: TestHost, nodeId: string): string[] {
  const mark = `HEARTH_DATA_DIR=${host.settings.dataDir}`;
  const processes = findProcesses((_args, environment) => environment.includes(mark));
  const tables = execFileSync("nft", ["list", "tables"], { encoding: "utf8" }).split("\n");
  return [
    ...processes.map(({ args }) => args.join(" ")),
    ...tables.filter((line) => line.endsWith(firewallTable(nodeId))),
    ...loopback()
      .split("\n")
      .filter((line) =>
        line.includes(` ${resolverAddress(parseClusterPrefix(readIdentity(host.settings.dataDir).prefix))}/`),
      ),
    ...[host.settings.runDir, join(host.settings.dataDir, "agent.lock")].filter(existsSync),
  ];
}

test("a node comes up, is one alone, survives its services, and leaves nothing behind", async () => {
  await using host = await testHost();
  const { dataDir, runDir } = host.settings;
  const agent = host.agent();
  await agent.start();
  const ready = await host.until(({ state }) => state === "ready");
  assert.deepEqual(
    ready.services.map(({ name, state }) => [name, state]),
    [
      ["nats-server", "running"],
      ["images", "running"],
      ["dns", "running"],
      ["worker", "running"],
      ["regional", "running"],
      ["ingress", "running"],
      ["ssh", "running"],
    ],
  );
  assert.equal(ready.mesh?.state, "off", "a host that nobody reaches pays nothing for a mesh");
  assert.ok(!existsSync(join(dataDir, "credentials/mesh")));
  assert.equal(mode(join(dataDir, "token")), "600");
  assert.equal(mode(join(runDir, "node.json")), "600");
  assert.equal(mode(socketPath(runDir)), "600");
  assert.ok(ready.warnings.some((line) => line.startsWith("KVM")));
  const config = readNodeConfig(join(runDir, "node.json"));
  assert.equal(config.node_id, ready.node_id);
  assert.ok(config.capacity.memory_mb > 0);

  await assert.rejects(host.agent().start(), is("conflict"));

  const worker = ready.services.find(({ name }) => name === "worker");
  process.kill(worker?.pid ?? 0, "SIGKILL");
  const mended = await host.until(({ services }) =>
    services.some(({ name, state, restarts }) => name === "worker" && state === "running" && restarts === 1),
  );
  assert.equal(mended.services.find(({ name }) => name === "worker")?.last_exit, "signal SIGKILL");

  await agentDown(socketPath(runDir), { timeout_ms: 1234 }, 30_000);
  await agent.ended;
  assert.deepEqual(JSON.parse(readFileSync(join(dataDir, "stopped.json"), "utf8")), { timeout_ms: 1234 });
  assert.deepEqual(leftOnHost(host, ready.node_id), []);

  const again = host.agent();
  const token = readFileSync(join(dataDir, "token"), "utf8");
  await again.start();
  const second = await host.until(({ state }) => state === "ready");
  assert.equal(second.node_id, ready.node_id);
  assert.equal(readNodeConfig(join(runDir, "node.json")).prefix, config.prefix);
  assert.equal(readFileSync(join(dataDir, "token"), "utf8"), token);
  await again.down();
  await again.ended;
});

test("down waits for a worker that is being started again, and is refused when machines do not stop", async () => {
  await using host = await testHost();
  const { dataDir, runDir } = host.settings;
  const agent = host.agent();
  await agent.start();
  const ready = await host.until(({ state }) => state === "ready");
  const refuse = join(dataDir, "refuse-stop");
  writeFileSync(refuse, "");
  await assert.rejects(agentDown(socketPath(runDir), {}, 30_000), is("unavailable"));
  await host.until(({ state }) => state === "ready");
  rmSync(refuse);
  process.kill(ready.services.find(({ name }) => name === "worker")?.pid ?? 0, "SIGKILL");
  await agentDown(socketPath(runDir), {}, 30_000);
  await agent.ended;
  assert.deepEqual(leftOnHost(host, ready.node_id), []);
});

test("the next agent ends the services of one that was killed, and takes its place", async () => {
  await using host = await testHost();
  const { settings } = host;
  const script = `
    const { HostAgent } = await import(${JSON.stringify(join(import.meta.dirname, "host-agent.ts"))});
    const { createLogger } = await import("@hearth/telemetry");
    const probe = async () => ({ usable: false, reason: "" });
    await new HostAgent({ settings: ${JSON.stringify(settings)}, logger: createLogger("a"), probe }).start();`;
  const first = spawn(process.execPath, ["--input-type=module", "-e", script], {
    cwd: import.meta.dirname,
    stdio: "ignore",
  });
  const before = await host.until(({ state }) => state === "ready");
  const exited = once(first, "exit");
  first.kill("SIGKILL");
  await exited;
  const mark = `HEARTH_DATA_DIR=${settings.dataDir}`;
  const orphans = findProcesses((_args, environment) => environment.includes(mark));
  assert.equal(orphans.length, 7, "the services live on");

  const agent = host.agent();
  await agent.start();
  const after = await host.until(({ state, pid }) => state === "ready" && pid === process.pid);
  assert.equal(after.node_id, before.node_id);
  const pids = after.services.map(({ pid }) => pid);
  assert.ok(orphans.every(({ pid }) => !pids.includes(pid)));
  const now = findProcesses((_args, environment) => environment.includes(mark));
  assert.deepEqual(now.map(({ pid }) => pid).sort(), [...pids].sort());

  await agent.release();
  await agent.ended;
  assert.ok(existsSync(settings.runDir), "what machines need in the run directory stays");
  assert.deepEqual(existsSync(join(settings.dataDir, "stopped.json")), false);
  execFileSync("nft", ["delete", "table", "inet", firewallTable(after.node_id)]);
  const resolver = resolverAddress(parseClusterPrefix(readIdentity(settings.dataDir).prefix));
  assert.ok(loopback().includes(` ${resolver}/128`), "guests that run on go on asking");
  execFileSync("ip", ["addr", "del", `${resolver}/128`, "dev", "lo"]);
});

test("a host that lacks something, a taken port and a foreign run directory are refused by name", async () => {
  await using host = await testHost();
  rmSync(join(host.settings.assetsDir, "vmlinux"));
  await assert.rejects(host.agent().start(), (error: unknown) => {
    assert.ok(error instanceof HearthError && error.code === "host_requirement_missing");
    return error.message.includes("vmlinux");
  });
  await using other = await testHost();
  const squatter = createServer().listen(other.settings.apiPort, "127.0.0.1");
  await once(squatter, "listening");
  const refused = other.agent();
  await assert.rejects(refused.start(), is("conflict"));
  assert.equal(existsSync(other.settings.runDir), false, "nothing is left of a start that failed");
  squatter.close();
  await using third = await testHost();
  execFileSync("mkdir", [third.settings.runDir]);
  writeFileSync(join(third.settings.runDir, "precious"), "");
  await assert.rejects(third.agent().start(), is("invalid_argument"));
  assert.deepEqual(readdirSync(third.settings.runDir), ["precious"]);
});
