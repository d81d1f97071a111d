/** explain, lease, cordon, uncordon. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { MachineExplanation, MachineRun } from "@hearth/machine";
import { explanationText, formatMs } from "./explanation-text.ts";
import { type CliHost, cliHost, ended } from "./testing/hearth-process.ts";

let host: CliHost;
before(async () => {
  host = await cliHost();
});
after(() => host[Symbol.asyncDispose]());

const sleeper = ["demo:latest", "sleep", "1000"];

describe("explain", () => {
  test("a machine that failed: why, what to do, where, and the end of its console", async () => {
    const run = await host.hearth(["run", "-d", "--name", "broken", "demo:latest", "/no/such"]);
    assert.notEqual(run.code, 0);
    const { code, stdout, stderr } = await host.hearth(["explain", "broken"]);
    assert.equal(code, 0, stderr);
    const id = /^broken \(([0-9a-f]{14})\) is failed\.$/m.exec(stdout)?.[1];
    assert.ok(id !== undefined, stdout);
    assert.equal(
      stdout,
      `broken (${id}) is failed.
The image has no program "/no/such" that can be run; check it. (entrypoint_not_found, at process-start after 1 attempt)
Next: check the command and the image. Then \`hearth start ${id}\` tries again.

machine-start failed, begun 2026-01-01T12:00:00.000Z, 2.0 s in all
STEP           STATE   TRIES  AT       TOOK    SHARE
image          undone  1      +0 ms    100 ms  #.......................
network-slot   undone  1      +0 ms    50 ms   #.......................
vmm            undone  1      +100 ms  200 ms  .##.....................
guest-ready    undone  1      +300 ms  1.6 s   ...###################..
process-start  failed  1      +1.9 s   100 ms  ......................#.

The end of its console:
  | hearth: starting the program
`,
    );
  });

  test("a machine that runs has its steps and no blame; with --json it is as the API tells it", async () => {
    const id = await host.machine(...sleeper);
    const { stdout } = await host.hearth(["explain", id]);
    assert.match(stdout, /is started\.\n\nmachine-start done/);
    assert.doesNotMatch(stdout, /Next:|console/);
    const told = JSON.parse((await host.hearth(["explain", "--json", id])).stdout);
    assert.equal(told.machine_id, id);
    assert.equal(told.runs[0].steps.length, 5);
  });

  test("a machine that is not there is an error", async () => {
    const { code, stderr } = await host.hearth(["explain", "nobody"]);
    assert.equal(code, 1);
    assert.match(stderr, /machine_not_found/);
  });

  test("what goes on is told with where it is; a stop that went well does not hide the start", () => {
    const times = { begun_at: "2026-01-01T00:00:00.000Z", ended_at: null, duration_ms: 65_000 };
    const step = {
      name: "image",
      state: "begun",
      attempts: 2,
      ...times,
      reason: "registry_unavailable: no",
    } as const;
    const open: MachineRun = {
      run_id: "2",
      kind: "machine-start",
      state: "running",
      ...times,
      error: null,
      steps: [step],
    };
    const machine = { id: "000102030405aa" as never, name: "web", events: [] };
    const text = (state: string, runs: MachineExplanation["runs"]) =>
      explanationText(machine, { machine_id: machine.id, state, runs });
    assert.match(
      text("starting", [open]),
      /^It is at image for 1 min 5 s, attempt 2: registry_unavailable: no$/m,
    );
    const over = { ...open, ended_at: "2026-01-01T00:01:05.000Z", state: "done", steps: [] } as const;
    const shown = text("stopped", [{ ...over, kind: "machine-down" }, over]);
    assert.match(shown, /^machine-start done/m);
    assert.doesNotMatch(shown, /machine-down/);
    assert.match(text("created", []), /Nothing has been done for it yet/);
    assert.deepEqual([0, 999, 1_000, 119_400].map(formatMs), ["0 ms", "999 ms", "1.0 s", "1 min 59 s"]);
  });
});

describe("lease", () => {
  test("who holds the nonce changes the machine, and nobody else", async () => {
    const id = await host.machine("--name", "leased", ...sleeper);
    const none = await host.hearth(["lease", "show", "leased"]);
    assert.deepEqual([none.code, /lease not found.*\(lease_not_found\)/.test(none.stderr)], [1, true]);
    const acquired = await host.hearth(["lease", "acquire", "leased", "--ttl", "300", "-d", "deploy"]);
    assert.equal(acquired.code, 0, acquired.stderr);
    const nonce = acquired.stdout.trim();
    const shown = (await host.hearth(["lease", "show", "leased"])).stdout;
    assert.match(shown, /^OWNER +EXPIRES +VERSION +DESCRIPTION\n\S+@\S+ +\d{4}-\S+Z +\S+ +deploy\n$/);
    assert.equal(shown.includes(nonce), false);
    const refused = await host.hearth(["stop", "leased"]);
    assert.equal(refused.code, 1);
    assert.match(
      refused.stderr,
      new RegExp(`machine ID ${id} lease currently held by \\S+@\\S+, expires at`),
    );
    assert.equal((await host.hearth(["lease", "acquire", "leased"])).code, 1);

    const holding = { HEARTH_LEASE_NONCE: nonce };
    const kept = await ended(host.start(["lease", "acquire", "--json", "leased"], holding));
    assert.deepEqual([kept.code, JSON.parse(kept.stdout).nonce], [0, nonce], kept.stderr);
    assert.equal((await ended(host.start(["stop", "leased"], holding))).code, 0);
    assert.equal(host.record(id)?.state, "stopped");
    const released = await host.hearth(["lease", "release", "leased", "--nonce", nonce]);
    assert.deepEqual([released.code, released.stdout], [0, "leased\n"]);
    assert.equal((await host.hearth(["start", "leased"])).code, 0);
  });
});

describe("cordon", () => {
  test("the mark is set and taken back, and the machine runs on", async () => {
    const id = await host.machine(...sleeper);
    assert.deepEqual((await host.hearth(["cordon", id])).stdout, `${id}\n`);
    assert.deepEqual([host.record(id)?.cordoned, host.record(id)?.state], [true, "started"]);
    const back = await host.hearth(["uncordon", "--json", id]);
    assert.deepEqual(JSON.parse(back.stdout), [{ machine: id, id, ok: true }]);
    assert.equal(host.record(id)?.cordoned, false);
  });
});
