import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { HearthError } from "@hearth/errors";
import { startRegion, until } from "../testing/fixture.ts";
import { writeFact } from "./write-fact.ts";

test("a write that the bus took and the replica's disk did not is in doubt, not done; with the disk back it is there", async () => {
  await using region = await startRegion();
  {
    // Holds the file as a disk would that takes no more.
    using blocker = new DatabaseSync(region.replicaPath);
    blocker.exec("BEGIN IMMEDIATE");
    const { status, json } = await region.call("POST", "/v1/apps", { app_name: "web" });
    assert.deepEqual([status, json.code, json.details.in_doubt], [503, "unavailable", true]);
    assert.match(json.message, /may have been made/);
    blocker.exec("ROLLBACK");
  }
  const network = () => region.replica.list("network.").length === 1;
  await until(network, "what was in doubt is there", 10_000);
  await until(() => region.replica.isSettled, "the feed goes on", 10_000);
  const again = await region.call("POST", "/v1/apps", { app_name: "web" });
  assert.equal(again.status, 201);
});

test("by a copy that follows no stream nothing is written", async () => {
  await using region = await startRegion();
  await region.replica.stop();
  const deps = { view: { replica: region.replica }, facts: () => region.facts };
  const unsettled = (error: unknown) =>
    error instanceof HearthError && error.code === "unavailable" && error.details?.in_doubt === undefined;
  await assert.rejects(writeFact(deps, { key: "app.web", value: 1 }), unsettled);
  assert.equal((await region.facts.compareAndWrite("app.web", 1, 0)).key, "app.web");
});

test("every read says how old what it says is", async () => {
  await using region = await startRegion();
  await until(() => region.replica.ageMs < 5_000, "the replica has been compared");
  const { headers } = await region.call("GET", "/v1/apps");
  assert.match(headers.get("hearth-replica-age-ms") ?? "", /^\d{1,4}$/);
  const written = await region.call("POST", "/v1/apps", { app_name: "web" });
  assert.equal(written.headers.get("hearth-replica-age-ms"), null);
});
