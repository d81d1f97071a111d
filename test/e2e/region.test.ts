/** A region of several hosts: how they come in, what each may, and what the loss of one does. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type Finished, type Json, until } from "@hearth/testkit";
import { type RegionHost, type RegionHosts, regionHosts } from "./region-hosts.ts";

let region: RegionHosts;
let hosts: readonly [RegionHost, RegionHost, RegionHost, RegionHost];
let token = "";

const done = ({ code, stdout, stderr }: Finished): string => {
  assert.equal(code, 0, `${stdout}${stderr}`);
  return stdout.trim();
};
const invite = async (...flags: string[]): Promise<string> =>
  done(await hosts[0].hearth(["token", "node", ...flags]));

async function refusal(
  host: RegionHost,
  args: readonly string[],
): Promise<{ code: string; message: string }> {
  const { code, stderr } = await host.hearth([...args, "--json"]);
  assert.equal(code, 1, stderr);
  return JSON.parse(stderr.trim().split("\n").at(-1) ?? "").error;
}

const bus = async (host: RegionHost): Promise<Json> => (await host.doctor()).node?.bus;
const threeCopies = (host: RegionHost) =>
  until("three copies of the state", 60_000, async () =>
    (await bus(host))?.current_copies === 3 ? true : undefined,
  );

describe("a region of hosts", { timeout: 280_000 }, () => {
  before(async () => {
    region = await regionHosts(4);
    const [a, b, c, d] = region.hosts;
    assert.ok(a && b && c && d);
    hosts = [a, b, c, d];
    done(await a.hearth(["up"]));
    token = (await readFile(join(a.dataDir, "token"), "utf8")).trim();
  });
  after(() => region[Symbol.asyncDispose]());

  test("a token that is none, one that was used, and a region that is not there are refused by name", async () => {
    const [first, second, , fourth] = hosts;
    assert.equal((await refusal(second, ["join", "hearth-join-abc"])).code, "join_token_invalid");
    const nowhere = Buffer.from(
      JSON.stringify({
        api_urls: [`http://${first.address}:9`],
        secret: "x".repeat(43),
        region: "local",
        roles: ["worker"],
      }),
    ).toString("base64url");
    const unreachable = await refusal(second, ["join", `hearth-join-${nowhere}`]);
    assert.equal(unreachable.code, "region_unreachable");
    assert.ok(unreachable.message.includes(`${first.address}:9`), unreachable.message);
    const once = await invite();
    done(await fourth.hearth(["join", once, "--label", "rack=d"]));
    assert.equal((await refusal(second, ["join", once])).code, "join_token_used");
    assert.equal((await refusal(first, ["join", once])).code, "already_joined");
  });

  test("a host without an API uses its region's, and says what is wrong with it", async () => {
    const [first, , , fourth] = hosts;
    const { healthy, findings, node } = await fourth.doctor({ HEARTH_TOKEN: token });
    assert.ok(healthy, JSON.stringify(findings));
    assert.equal(node.api_url, `http://${first.address}:4280`);
    assert.deepEqual(node.roles, ["worker"]);
    const names = node.services.map(({ name }: { name: string }) => name);
    assert.deepEqual(names, ["images", "dns", "worker", "ingress"]);
    done(await fourth.hearth(["apps", "create", "early"], { HEARTH_TOKEN: token }));
  });

  test("the third host of the bus makes it a cluster, and nothing is lost on the way", async () => {
    const [first, second, third] = hosts;
    done(await second.hearth(["join", await invite("--api", "--bus")]));
    assert.equal((await bus(second)).server, "none", "two servers would be down when either is");
    done(await third.hearth(["join", await invite("--bus")]));
    await threeCopies(first);
    const members = (await bus(third)).members;
    assert.equal(members.length, 3);
    const { stdout } = await second.hearth(["apps", "--json"], { HEARTH_TOKEN: token });
    assert.deepEqual(
      JSON.parse(stdout).map(({ name }: Json) => name),
      ["early"],
      "the first host's token is good at the second's API",
    );
  });

  test("seeds are private, and no secret is in an argument or in the state", async () => {
    const secrets: string[] = [];
    for (const host of hosts) {
      const directory = join(host.dataDir, "credentials");
      assert.equal(statSync(directory).mode & 0o777, 0o700);
      for (const name of readdirSync(directory, { recursive: true, encoding: "utf8" })) {
        const path = join(directory, name);
        const isDirectory = statSync(path).isDirectory();
        assert.equal(statSync(path).mode & 0o777, isDirectory ? 0o700 : 0o600, path);
        if (isDirectory) continue;
        // The secret of the servers has its number on a line of its own.
        secrets.push(
          ...readFileSync(path, "utf8")
            .split("\n")
            .filter((line) => line.length > 16),
        );
      }
    }
    const said = hosts.flatMap((host) => host.processes().map(({ command }) => command)).join("\n");
    const state = readdirSync(join(hosts[0].dataDir, "host-agent"))
      .map((name) => readFileSync(join(hosts[0].dataDir, "host-agent", name), "latin1"))
      .join("");
    assert.ok(state.includes("node-key."), "the agent's copy of the state was looked at");
    for (const secret of secrets) assert.equal(`${said}${state}`.includes(secret), false);
  });

  test("any one of the three is lost without a write or a fact being lost, and comes back", async () => {
    const [first, second] = hosts;
    for (const [index, lost] of hosts.slice(0, 3).entries()) {
      const other = lost === second ? first : second;
      await lost.kill();
      const sinceMs = Date.now();
      await until("a write without it", 20_000, async () => {
        const askedAtMs = Date.now();
        const { code, stderr } = await other.hearth(["apps", "create", `without-${index}`], {
          HEARTH_TOKEN: token,
        });
        console.log(`# asked at ${askedAtMs - sinceMs} ms, ${Date.now() - askedAtMs} ms: ${stderr.trim()}`);
        // Taken: an earlier try was written, and its answer was lost with the host.
        return code === 0 || stderr.includes("name_taken") ? true : undefined;
      });
      console.log(`# host ${index + 1} lost: ${Date.now() - sinceMs} ms to the next write`);
      done(await lost.hearth(["up"]));
      await threeCopies(other);
    }
    const { stdout } = await second.hearth(["apps", "--json"], { HEARTH_TOKEN: token });
    const names = JSON.parse(stdout).map(({ name }: Json) => name);
    assert.deepEqual(names.sort(), ["early", "without-0", "without-1", "without-2"]);
  });

  test("a node whose key is taken from the state is out at once", async () => {
    const [first, , , fourth] = hosts;
    const { node } = await fourth.doctor({ HEARTH_TOKEN: token });
    const config = join(first.dataDir, "../run/node.json");
    const removed = await first.script(`
      import { busLogin, connectBus, FactStore, readNodeConfig } from "@hearth/cluster";
      const bus = await connectBus(busLogin(readNodeConfig(${JSON.stringify(config)}), "api"));
      await new FactStore({ bus }).delete("node-key.${node.node_id}");
      await bus.close();`);
    assert.equal(removed.code, 0, removed.stderr);
    await until("the node is out", 20_000, async () => {
      const { node: now } = await fourth.doctor({ HEARTH_TOKEN: token });
      return now.state === "degraded" ? true : undefined;
    });
    const log = await readFile(join(fourth.dataDir, "logs/agent.log"), "utf8");
    assert.ok(log.includes("degraded"));
    const others = await first.doctor();
    assert.ok(others.healthy, JSON.stringify(others.findings));
  });

  test("a host that was down comes up as what it is", async () => {
    const [first, second] = hosts;
    done(await second.hearth(["down"]));
    done(await second.hearth(["up"], { HEARTH_ADDRESS: "" }));
    const { node } = await second.doctor();
    assert.deepEqual([node.address, node.roles], [second.address, ["worker", "api", "bus"]]);
    const wrong = await refusal(first, ["join", await invite()]);
    assert.equal(wrong.code, "already_joined");
  });
});
