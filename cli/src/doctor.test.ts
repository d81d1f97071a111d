import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type CliHost, cliHost, ended } from "./testing/hearth-process.ts";

let host: CliHost;
before(async () => {
  host = await cliHost();
});
after(() => host[Symbol.asyncDispose]());

test("of an API somewhere else only that is looked at", async () => {
  const { code, stdout } = await host.hearth(["doctor", "--json"]);
  const { healthy, findings } = JSON.parse(stdout);
  assert.deepEqual([code, healthy], [0, true]);
  assert.deepEqual(
    findings.map(({ name, level }: { name: string; level: string }) => [name, level]),
    [
      ["api", "ok"],
      ["token", "ok"],
      ["nodes", "ok"],
    ],
  );
});

test("a deep look compares each node with its host, and what differs is broken unless it is passing", async () => {
  const clean = await host.hearth(["doctor", "--deep", "--json"]);
  assert.deepEqual([clean.code, JSON.parse(clean.stdout).inspections[0].differences], [0, []]);
  const difference = {
    kind: "tap",
    key: "hth1",
    machine_id: null,
    problem: "unexpected",
    message: "A tap.",
  } as const;
  host.api.differences.push({ ...difference, pending: true });
  const passing = await host.hearth(["doctor", "--deep"]);
  assert.equal(passing.code, 0);
  assert.match(passing.stdout, /^warn .*A tap\. \(tap hth1, of no known machine\)$/m);
  host.api.differences.splice(0, 1, { ...difference, pending: false });
  const { code, stdout } = await host.hearth(["doctor", "--deep"]);
  host.api.differences.splice(0);
  assert.equal(code, 1);
  assert.match(stdout, /^BROKEN Node n1: A tap\./m);
});

test("a token that is refused is broken, and where it comes from is said", async () => {
  const { code, stdout } = await ended(host.start(["doctor"], { HEARTH_TOKEN: "wrong" }));
  assert.equal(code, 1);
  assert.match(stdout, /^BROKEN .*HEARTH_TOKEN.*\(unauthenticated\)$/m);
});
