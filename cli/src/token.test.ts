/** hearth token. */
import assert from "node:assert/strict";
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type CliHost, cliHost, ended } from "./testing/hearth-process.ts";

let host: CliHost;
before(async () => {
  host = await cliHost();
});
after(() => host[Symbol.asyncDispose]());

const sent = () => host.api.calls.at(-1)?.body as Record<string, unknown> | undefined;

test("a token alone is on standard output, and what it may do beside it", async () => {
  const run = await host.hearth(["token", "create", "--app", "web", "--app", "shop", "--deploy"]);
  assert.deepEqual([run.code, run.stdout], [0, "header.claims.signature\n"], run.stderr);
  assert.match(run.stderr, /deploy on app web, shop, until .*\n.*hearth token revoke [0-9a-f]{16}/);
  assert.deepEqual(sent(), { level: "deploy", apps: ["web", "shop"] });
});

test("the level is read-only unless another one is named, and only one can be", async () => {
  const args = ["--org", "acme", "--machine", "0123456789abcd", "--expires", "90d", "--label", "ci"];
  const run = await host.hearth(["token", "create", "--json", ...args]);
  assert.equal(JSON.parse(run.stdout).token, "header.claims.signature");
  assert.deepEqual(sent(), {
    ...{ level: "read-only", org: "acme", machines: ["0123456789abcd"] },
    ...{ expires_in: 7_776_000, label: "ci" },
  });
  const two = await host.hearth(["token", "create", "--exec", "--admin"]);
  assert.deepEqual([two.code, two.stdout], [2, ""]);
  const wrong = await host.hearth(["token", "create", "--expires", "soon"]);
  assert.equal(wrong.code, 2);
  assert.match(wrong.stderr, /30m, 24h or 90d/);
  const wider = await host.hearth(["token", "create", "--org", "other"]);
  assert.equal(wider.code, 1);
  assert.match(wider.stderr, /permission_denied/);
});

test("tokens are listed over all pages, and revoked by the id that is shown", async () => {
  await host.hearth(["token", "create", "--label", "last"]);
  const listed = JSON.parse((await host.hearth(["token", "ls", "--json"])).stdout);
  assert.ok(listed.length >= 3);
  const { id } = listed.at(-1);
  const table = (await host.hearth(["token", "list"])).stdout;
  assert.match(table, /^ID +LABEL +MAY +ON +AGE +ENDS +ISSUER\n/);
  assert.match(table, new RegExp(`${id} +last +read-only +everything`));
  assert.equal((await host.hearth(["token", "revoke", id])).stdout, `${id}\n`);
  assert.match((await host.hearth(["token", "list"])).stdout, new RegExp(`${id} .* revoked`));
  const unknown = await host.hearth(["token", "revoke", "00000000"]);
  assert.deepEqual([unknown.code, unknown.stdout], [1, ""]);
});

test("the token in use is shown", async () => {
  const run = await host.hearth(["token", "show"]);
  assert.equal(
    run.stdout,
    "the operator's token\n  may    admin: read\n  on     everything\n  until  it is replaced\n",
  );
});

test("the operator's token is replaced on its host only, and is private", async () => {
  const elsewhere = await host.hearth(["token", "rotate-admin"]);
  assert.notEqual(elsewhere.code, 0);
  const path = join(host.directory, "data/token");
  await mkdir(join(host.directory, "data"), { recursive: true });
  await writeFile(path, "test-token\n");
  const rotate = host.start(["token", "rotate-admin", "--json"], { HEARTH_TOKEN: "" });
  const run = await ended(rotate);
  assert.equal(run.code, 0, run.stderr);
  const token = (await readFile(path, "utf8")).trim();
  assert.match(token, /^[A-Za-z0-9_-]{43}$/);
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  assert.ok(!run.stdout.includes(token));
});
