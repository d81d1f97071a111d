/** The real API process, started on a bus that is not there. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { freePort } from "@hearth/testkit";
import { ApiProcess } from "./api-process.ts";

const hourMs = 3600_000;

async function startAlone(stack: AsyncDisposableStack): Promise<ApiProcess> {
  const directory = mkdtempSync(join(tmpdir(), "hearth-alone-"));
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));
  const nats = { servers: [`nats://127.0.0.1:${await freePort()}`], user: "u", pass: "p" };
  return stack.use(new ApiProcess(directory, nats, "api0"));
}

test("an API that starts with the bus down reads from its disk, says how old that is, and refuses writes", async () => {
  await using stack = new AsyncDisposableStack();
  const api = await startAlone(stack);
  mkdirSync(dirname(api.replicaPath), { recursive: true });
  const app = {
    id: "1",
    name: "web",
    org_slug: "personal",
    network: 7,
    network_name: "default",
    created_at_ms: 1,
  };
  {
    using database = new DatabaseSync(api.replicaPath);
    database.exec(`
      CREATE TABLE fact (key TEXT PRIMARY KEY, value TEXT, revision INTEGER NOT NULL) STRICT;
      CREATE TABLE position (id INTEGER PRIMARY KEY CHECK (id = 1), stream TEXT NOT NULL, revision INTEGER NOT NULL, checked_at INTEGER NOT NULL) STRICT;
      INSERT INTO position VALUES (1, '2026-01-01T00:00:00Z', 1, ${Date.now() - hourMs});`);
    database.prepare("INSERT INTO fact VALUES ('app.web', ?, 1)").run(JSON.stringify(app));
  }
  await api.start();
  const read = await api.call("GET", "/v1/apps/web");
  assert.deepEqual([read.status, read.body.name], [200, "web"]);
  assert.ok(Number(read.headers["hearth-replica-age-ms"]) >= hourMs);
  const begun = performance.now();
  const written = await api.call("POST", "/v1/apps", { app_name: "other" });
  assert.deepEqual([written.status, written.body.code], [503, "unavailable"]);
  assert.ok(performance.now() - begun < 2_000, "it is refused at once, and not at a limit");
  const { body: health } = await api.call("GET", "/v1/health");
  assert.deepEqual([health.status, health.bus, health.restored_facts], ["degraded", false, 0]);
  assert.ok(health.replica_age_ms >= hourMs);
});

test("an API that has never heard of a bus says that it does not know how old its answers are", async () => {
  await using stack = new AsyncDisposableStack();
  const api = await startAlone(stack);
  await api.start();
  const { status, headers } = await api.call("GET", "/v1/apps");
  assert.deepEqual([status, headers["hearth-replica-age-ms"]], [200, "unknown"]);
});
