/** hearth node. */
import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { type CliHost, cliHost } from "./testing/hearth-process.ts";

const host: CliHost = await cliHost();
after(() => host[Symbol.asyncDispose]());

const newNode = (...remaining: ReturnType<typeof move>[]) => ({
  ...{ cordoned: false, draining: false, problems: [], moved: [] },
  remaining,
});
const move = (machine_id: string, name: string, why: string | null = null) => ({
  ...{ machine_id, app: "web", name, state: "started", to: null, why },
});
const here = "It has a volume, which stays on its host.";

beforeEach(() => {
  host.api.nodes.clear();
  host.api.nodes.set("n1", newNode(move("0123456789aaaa", "one"), move("0123456789bbbb", "two")));
  host.api.nodes.set("n2", { ...newNode(), problems: ["The disk is full."] });
  host.api.calls.splice(0);
});

const asked = () => host.api.calls.map(({ method, path }) => `${method} ${path}`);

test("nodes are listed with their state, their room and their problems; as JSON whole", async () => {
  for (const args of [["node"], ["node", "ls"], ["node", "list"]]) {
    const { code, stdout, stderr } = await host.hearth(args);
    assert.equal(code, 0, stderr);
    const [head, ...rows] = stdout.trim().split("\n");
    assert.match(head ?? "", /^NODE +REGION +STATE +MACHINES +FREE MEMORY +HEARD$/);
    assert.match(rows[0] ?? "", /^n1 +local +ready +2 +1\.0 GiB of 2\.0 GiB +1s$/);
    assert.match(rows[1] ?? "", /^n2 +local +ready +0 /);
    assert.match(stderr, /n2: The disk is full\./);
  }
  for (const args of [
    ["node", "ls", "--json"],
    ["node", "--json", "ls"],
  ]) {
    const nodes = JSON.parse((await host.hearth(args)).stdout);
    assert.deepEqual(
      nodes.map(({ node_id, machines }: { node_id: string; machines: number }) => [node_id, machines]),
      [
        ["n1", 2],
        ["n2", 0],
      ],
    );
  }
});

test("a node is shown with its machines, and what is not known is said by name", async () => {
  const { code, stdout } = await host.hearth(["node", "show", "n1"]);
  assert.equal(code, 0);
  assert.match(stdout, /^n1 {2}local {2}ready, heard 1 s ago\n2 processors, 1\.0 GiB free of 2\.0 GiB\n/);
  assert.match(stdout, /note: Guests run without KVM\./);
  assert.match(stdout, /0123456789aaaa +web +one +started +here/);
  assert.equal(JSON.parse((await host.hearth(["node", "show", "n1", "--json"])).stdout).remaining.length, 2);
  for (const args of [["show"], ["cordon"], ["drain"], ["remove"]]) {
    const unknown = await host.hearth(["node", ...args, "n9"]);
    assert.deepEqual([unknown.code, unknown.stdout], [1, ""]);
    assert.match(unknown.stderr, /There is no node n9\..*not_found/s);
    const none = await host.hearth(["node", ...args]);
    assert.deepEqual([none.code, none.stdout], [2, ""]);
    assert.match(none.stderr, /node/);
  }
  assert.equal((await host.hearth(["node", "sdrain", "n1"])).code, 2);
});

test("cordon, uncordon and undrain ask for just that, and say what the node is now", async () => {
  for (const [verb, state] of [
    ["cordon", "cordoned"],
    ["uncordon", "ready"],
    ["undrain", "ready"],
  ] as const) {
    const { code, stdout, stderr } = await host.hearth(["node", verb, "n1"]);
    assert.deepEqual([code, stdout], [0, `n1 ${state}\n`], stderr);
    assert.equal(JSON.parse((await host.hearth(["node", verb, "n1", "--json"])).stdout).state, state);
  }
  assert.deepEqual(
    new Set(asked()),
    new Set(["cordon", "uncordon", "undrain"].map((verb) => `POST /v1/nodes/n1/${verb}`)),
  );
});

test("a drain is asked for and not waited for, unless that is asked for", async () => {
  const begun = await host.hearth(["node", "drain", "n1"]);
  assert.equal(begun.code, 0, begun.stderr);
  assert.match(begun.stdout, /^n1 draining\n.*0123456789aaaa +web +one +started +here/s);
  assert.deepEqual(asked(), ["POST /v1/nodes/n1/drain"]);
  const done = await host.hearth(["node", "drain", "--wait", "n1"]);
  assert.equal(done.code, 0, done.stderr);
  assert.match(done.stdout, /^n1 drained\n.*0123456789bbbb +web +two +started +moved to n2/s);
  assert.match(done.stderr, /web\/one \(0123456789aaaa\) moved to n2/);
});

test("a drain that leaves a machine behind says why and fails, also as JSON", async () => {
  const machines = [move("0123456789aaaa", "one"), move("0123456789cccc", "kept", here)];
  for (const json of [[], ["--json"]]) {
    host.api.nodes.set("n1", newNode(...machines));
    const { code, stdout } = await host.hearth(["node", "drain", "-w", "n1", ...json]);
    assert.equal(code, 1);
    if (json.length === 0) assert.match(stdout, new RegExp(`0123456789cccc .* here +${here}`));
    else
      assert.deepEqual(
        JSON.parse(stdout).remaining.map(({ why }: { why: string }) => why),
        [here],
      );
  }
  const wrong = await host.hearth(["node", "drain", "-w", "--timeout", "soon", "n1"]);
  assert.equal(wrong.code, 2);
});

test("a node that has machines is not removed, unless by force, which names them", async () => {
  const refused = await host.hearth(["node", "remove", "n1"]);
  assert.deepEqual([refused.code, refused.stdout], [1, ""]);
  assert.match(refused.stderr, /n1 has machines: 0123456789aaaa, .*Drain it first.*conflict/s);
  const forced = await host.hearth(["node", "rm", "--force", "n1"]);
  assert.deepEqual([forced.code, forced.stdout], [0, "n1\n"]);
  assert.match(forced.stderr, /Forgotten: 0123456789aaaa, 0123456789bbbb/);
  const { stdout } = await host.hearth(["node", "remove", "n2", "--json"]);
  assert.deepEqual(JSON.parse(stdout), { removed: "n2", forgotten: [] });
  assert.deepEqual([...host.api.nodes.keys()], []);
});
