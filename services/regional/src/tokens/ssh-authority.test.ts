import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ensureSealKey } from "@hearth/cluster";
import { factKeys, type NodeKeyFact } from "@hearth/machine";
import { createLogger } from "@hearth/telemetry";
import { startRegion, until } from "../testing/fixture.ts";
import { SshKeeper } from "./ssh-authority.ts";

test("hosts that begin at once, and one that comes later, have one secret, which the state does not show", async () => {
  await using region = await startRegion();
  const directory = mkdtempSync(join(tmpdir(), "hearth-ssh-keys-"));
  const host = async (nodeId: string) => {
    const settings = {
      port: 2222,
      secretPath: join(directory, nodeId, "ssh.secret"),
      sealSeedPath: join(directory, `${nodeId}.seed`),
    };
    const fact: NodeKeyFact = {
      ...{ node_id: nodeId, host_number: 1, roles: ["worker", "api"], node_key: "U", address: "10.0.0.1" },
      ...{ seal_key: ensureSealKey(settings.sealSeedPath), version: "1.0.0", joined_at_ms: 0 },
    };
    await region.facts.publish(factKeys.nodeKey(nodeId), fact);
    await until(() => region.replica.get(factKeys.nodeKey(nodeId)) !== undefined, "the host in the replica");
    const logger = createLogger("regional", {}, { level: "silent" });
    const keeper = new SshKeeper({
      facts: () => region.facts,
      replica: region.replica,
      nodeId,
      logger,
      settings,
    });
    return { keeper, secret: () => readFileSync(settings.secretPath, "utf8"), path: settings.secretPath };
  };
  const has = (keeper: SshKeeper) => () => {
    try {
      return keeper.authority.hostPublicKey.length === 32;
    } catch {
      return false;
    }
  };
  const hosts = [await host("hosta"), await host("hostb")];
  try {
    for (const { keeper } of hosts) keeper.start();
    for (const { keeper } of hosts) await until(has(keeper), "the keys of a host", 10_000);
    const late = await host("hostc");
    hosts.push(late);
    late.keeper.start();
    await until(has(late.keeper), "the keys of the late host", 10_000);
    const [secret = ""] = new Set(hosts.map((each) => each.secret()));
    assert.equal(new Set(hosts.map((each) => each.secret())).size, 1);
    assert.ok(!JSON.stringify(region.replica.get(factKeys.sshAuthority())).includes(secret.trim()));
    assert.equal(statSync(late.path).mode & 0o777, 0o600);
  } finally {
    for (const { keeper } of hosts) await keeper.stop();
    rmSync(directory, { recursive: true });
  }
});
