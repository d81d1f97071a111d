/** Tokens where there is no network: an API that starts with the bus down, from the replica on its disk. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Replica } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { createLogger } from "@hearth/telemetry";
import { readRegionalConfig } from "../config.ts";
import { RegionalApi } from "../regional-api.ts";
import { startRegion, testRegion, testToken, until } from "../testing/fixture.ts";
import { sha256 } from "./operator-tokens.ts";
import { readSigningKey } from "./signing-key.ts";

const down = (): never => {
  throw new HearthError("unavailable");
};

test("an API without the bus serves good tokens and refuses revoked ones, and its own operator's counts", async () => {
  const dir = await mkdtemp(join(tmpdir(), "hearth-offline-"));
  const path = join(dir, "replica.sqlite");
  await using region = await startRegion();
  const good = (await region.call("POST", "/v1/tokens", {})).json;
  const bad = (await region.call("POST", "/v1/tokens", {})).json;
  await region.call("DELETE", `/v1/tokens/${bad.id}`);
  await until(() => region.replica.list("admin-token.").length > 0, "the operator's token is announced");
  const filling = new Replica({ bus: region.bus, path });
  filling.start();
  await until(() => filling.revision >= region.replica.revision && filling.revision > 0, "the copy");
  await filling.stop();

  const replica = new Replica({ bus: new Promise(() => undefined), path });
  replica.start();
  const own = "operator-of-this-host-0123";
  const api = new RegionalApi({
    bus: down,
    facts: down,
    replica,
    nodeId: "node9",
    region: testRegion,
    tokenHash: sha256(own),
    signingKey: await readSigningKey(dir),
    nowMs: Date.now,
    randomBytes,
    logger: createLogger("test", {}, { level: "silent" }),
  });
  try {
    const url = await api.start({ host: "127.0.0.1", port: 0 });
    const ask = async (token: string, method = "GET", at = "/v1/apps") =>
      (await fetch(`${url}${at}`, { method, headers: { authorization: `Bearer ${token}` } })).status;
    assert.equal(await ask(good.token), 200);
    assert.equal(await ask(bad.token), 401);
    assert.equal(await ask(testToken), 200);
    assert.equal(await ask(own), 200);
    assert.equal(await ask(own, "POST", "/v1/tokens"), 503);
  } finally {
    await api.stop();
    await replica.stop();
    await rm(dir, { recursive: true });
  }
});

test("a host without an operator's token has a config all the same; one that is too short is named", async () => {
  const dir = await mkdtemp(join(tmpdir(), "hearth-config-"));
  const path = join(dir, "node.json");
  const node = {
    ...{ region: "r", node_id: "n1", host_number: 1, prefix: "fd00::/48", data_dir: dir, run_dir: dir },
    ...{ nats: { servers: [], user: "u", pass: "p" }, api: { host: "127.0.0.1", port: 0 } },
    ...{ assets: { kernel: "", initrd: "" }, accelerator: "tcg", capacity: { cpus: 1, memory_mb: 1 } },
    ...{ nameservers: [], warnings: [] },
  };
  await writeFile(path, JSON.stringify(node));
  try {
    assert.equal(readRegionalConfig({ HEARTH_NODE_CONFIG: path }).tokenHash, undefined);
    await writeFile(join(dir, "token"), "short");
    assert.throws(() => readRegionalConfig({ HEARTH_NODE_CONFIG: path }), {
      code: "host_requirement_missing",
    });
  } finally {
    await rm(dir, { recursive: true });
  }
});
