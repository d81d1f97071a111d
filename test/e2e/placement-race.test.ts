/** Two API processes want the last room of a node: one of them gets it, and the other is told why not. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { connectBus, FactStore, Replica } from "@hearth/cluster";
import { perMachinePrefixes } from "@hearth/machine";
import { RegionalApi, readSigningKey } from "@hearth/regional";
import { createLogger } from "@hearth/telemetry";
import { DrillNode, eventually, hostImage } from "@hearth/worker";

const rounds = 5;
const limitMs = 30_000;
const token = "race-token-0123456789";
const authorization = `Bearer ${token}`;
/** A node of a drill has a TiB to give. */
const moreThanHalf = 600_000;

interface Api extends AsyncDisposable {
  call(method: string, path: string, body?: unknown): Promise<{ status: number; json: Answer }>;
}
interface Answer {
  readonly id: string;
  readonly state: string;
  readonly code: string;
  readonly details: { readonly considered: readonly { node_id: string; code: string }[] };
}

async function startApi(node: DrillNode, dir: string): Promise<Api> {
  const bus = await connectBus(node.config.nats);
  const facts = new FactStore({ bus });
  const replica = new Replica({ bus, path: join(dir, "replica.sqlite"), onDisk: perMachinePrefixes });
  replica.start();
  const api = new RegionalApi({
    ...{ bus: () => bus, facts: () => facts, replica, nowMs: Date.now, randomBytes },
    nodeId: node.config.node_id,
    region: { name: node.config.region, prefix: node.config.prefix },
    signingKey: await readSigningKey(dir),
    tokenHash: createHash("sha256").update(token).digest(),
    logger: createLogger("regional", {}, { destination: { write: () => undefined } }),
  });
  const url = await api.start({ host: "127.0.0.1", port: 0 });
  return {
    call: async (method, path, body) => {
      const response = await fetch(`${url}${path}`, {
        method,
        headers: { authorization, ...(body === undefined ? {} : { "content-type": "application/json" }) },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      return { status: response.status, json: (await response.json()) as Answer };
    },
    [Symbol.asyncDispose]: async () => {
      await api.stop();
      await replica.stop();
      await bus.close();
    },
  };
}

test("of two API processes that race for the last room one wins, and the other is refused with the reason", {
  timeout: 180_000,
}, async () => {
  const dirs = await Promise.all([1, 2].map(() => mkdtemp(join(tmpdir(), "hearth-race-"))));
  try {
    await using node = new DrillNode("sim");
    await node.start(hostImage);
    await using first = await startApi(node, dirs[0] ?? "");
    await using second = await startApi(node, dirs[1] ?? "");
    // Until its copy is known to be current, an API answers 503.
    await eventually(
      "an app is made",
      async () => {
        const made = await first.call("POST", "/v1/apps", { app_name: "web", org_slug: "personal" });
        assert.ok(made.status === 201 || made.status === 503, JSON.stringify(made.json));
        return made.status === 201 ? true : undefined;
      },
      limitMs,
    );
    await eventually(
      "both know the app",
      async () => ((await second.call("GET", "/v1/apps/web")).status === 200 ? true : undefined),
      limitMs,
    );
    const body = { config: { image: "local/box:1", guest: { cpus: 1, memory_mb: moreThanHalf } } };
    for (let round = 0; round < rounds; round += 1) {
      const answers = await Promise.all(
        [first, second].map((api) => api.call("POST", "/v1/apps/web/machines", body)),
      );
      const [winner] = answers.filter(({ status }) => status === 200);
      const [loser] = answers.filter(({ status }) => status === 409);
      assert.ok(winner !== undefined && loser !== undefined, JSON.stringify(answers.map(({ json }) => json)));
      assert.equal(loser.json.code, "insufficient_capacity");
      const [reason] = loser.json.details.considered;
      assert.equal(reason?.node_id, node.config.node_id);
      assert.match(reason?.code ?? "", /^(refused|memory)$/);
      assert.equal(node.rows("SELECT * FROM machines WHERE state <> 'destroyed'").length, 1);
      assert.deepEqual(node.rows("SELECT * FROM reservations"), []);
      const path = `/v1/apps/web/machines/${winner.json.id}`;
      const api = answers[0] === winner ? first : second;
      assert.equal((await api.call("DELETE", `${path}?force=true`)).status, 200);
      await eventually(
        "the machine is gone",
        () =>
          node.rows("SELECT * FROM machines WHERE state <> 'destroyed' OR handle IS NOT NULL").length === 0
            ? true
            : undefined,
        limitMs,
      );
      const goneAtMs = Date.now();
      await eventually(
        "both have heard of it",
        async () => {
          const seen = await Promise.all([first, second].map((each) => each.call("GET", "/v1/nodes")));
          const told = seen.map(({ json }) => (json as unknown as { published_at_ms: number }[])[0]);
          return told.every((one) => (one?.published_at_ms ?? 0) > goneAtMs) ? true : undefined;
        },
        limitMs,
      );
    }
  } finally {
    for (const dir of dirs) await rm(dir, { recursive: true, force: true });
  }
});
