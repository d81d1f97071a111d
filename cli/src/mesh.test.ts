/** hearth mesh. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type CliHost, cliHost } from "./testing/hearth-process.ts";

let host: CliHost;
before(async () => {
  host = await cliHost();
});
after(() => host[Symbol.asyncDispose]());

test("the status is a line for each host and peer, and the same as JSON", async () => {
  for (const args of [["mesh"], ["mesh", "status"]]) {
    const { code, stdout, stderr } = await host.hearth(args);
    assert.deepEqual([code, stderr], [0, ""]);
    const [head, first, second] = stdout.split("\n");
    assert.match(head ?? "", /^NODE +PEER +ENDPOINT +STATE +HANDSHAKE +RECEIVED +SENT$/);
    assert.match(first ?? "", /^n1 +n2 +192\.0\.2\.2:51820 +connected +4s ago +2\.0 KiB +100 B$/);
    assert.match(second ?? "", /^n2 +n1 .* silent /);
  }
  const json = JSON.parse((await host.hearth(["mesh", "status", "--json"])).stdout);
  assert.deepEqual([json.state, json.nodes.length], ["steady", 2]);
});

test("a rotation is waited for, or only wanted, and one that takes too long fails and says for whom it waits", async () => {
  const done = await host.hearth(["mesh", "rotate"]);
  assert.deepEqual([done.code, done.stdout], [0, "Keys of epoch 2 are in use on all hosts that answer.\n"]);
  const wanted = await host.hearth(["mesh", "rotate", "--no-wait"]);
  assert.deepEqual([wanted.code, wanted.stdout], [0, "Keys of epoch 3 are wanted.\n"]);
  const refused = await host.hearth(["mesh", "rotate"]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /under way.*n2.*\(conflict\)/);
  Object.assign(host.api.mesh, { left: 0, looks: 999 });
  const late = await host.hearth(["mesh", "rotate", "--timeout", "1"]);
  assert.equal(late.code, 1);
  assert.match(late.stderr, /goes on; the old keys work.*waits for n2/);
});
