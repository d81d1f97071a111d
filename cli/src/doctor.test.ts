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

test("a token that is refused is broken, and where it comes from is said", async () => {
  const { code, stdout } = await ended(host.start(["doctor"], { HEARTH_TOKEN: "wrong" }));
  assert.equal(code, 1);
  assert.match(stdout, /^BROKEN .*HEARTH_TOKEN.*\(unauthenticated\)$/m);
});
