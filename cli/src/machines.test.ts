/** ps, logs, stop, start, restart, rm. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { formatChecks } from "./ps.ts";
import { type CliHost, cliHost, ended, launcher, lines, untilSaid } from "./testing/hearth-process.ts";

let host: CliHost;
before(async () => {
  host = await cliHost();
});
after(() => host[Symbol.asyncDispose]());

const sleeper = ["demo:latest", "sleep", "1000"];
const state = (id: string): string | undefined => host.record(id)?.state;

describe("ps", () => {
  test("says how many checks of a machine pass", () => {
    const check = { name: "web", output: "", updated_at: "2026-01-01T00:00:00.000Z" };
    assert.equal(formatChecks(undefined), "-");
    assert.equal(formatChecks([]), "-");
    const checks = [{ ...check, status: "passing" } as const, { ...check, status: "critical" } as const];
    assert.equal(formatChecks(checks), "1/2");
  });

  test("shows what runs in all apps, and with -a what does not", async () => {
    const running = await host.machine("--name", "seen", "--app", "one", ...sleeper);
    await host.hearth(["run", "--name", "over", "--app", "two", "demo:latest", "true"]);
    const shown = (await host.hearth(["ps"])).stdout;
    assert.match(shown, /^ID +NAME +APP +STATE +CHECKS +IMAGE +AGE +REGION +ADDRESS\n/);
    assert.match(shown, new RegExp(`${running} +seen +one +started +- +demo:latest`));
    assert.doesNotMatch(shown, /over/);
    assert.match((await host.hearth(["ps", "-a"])).stdout, /over +two +stopped/);
    assert.equal((await host.hearth(["ps", "-q", "--app", "one"])).stdout, `${running}\n`);
    const [machine] = JSON.parse((await host.hearth(["ps", "--json", "--app", "one"])).stdout);
    assert.deepEqual([machine.id, machine.app_name], [running, "one"]);
  });

  test("a disk that is full is an error and not a broken pipe", async () => {
    const run = await ended(host.start(["-c", `exec ${launcher} ps >/dev/full`], {}, "sh"));
    assert.equal(run.code, 1);
    assert.match(run.stderr, /ENOSPC/);
  });

  test("an app that is not there is an error and not an empty list", async () => {
    const run = await host.hearth(["ps", "--app", "none"]);
    assert.deepEqual([run.code, run.stdout], [1, ""]);
    assert.match(run.stderr, /app_not_found/);
  });
});

describe("logs", () => {
  test("each output goes to its own, bytes as they were", async () => {
    await host.hearth(["run", "--name", "wrote", "demo:latest", "sh", "-c", "printf 'a\\377'; echo no >&2"]);
    const { stdout, stderr } = host.start(["logs", "wrote"]);
    const [out, error] = await Promise.all([Array.fromAsync(stdout), Array.fromAsync(stderr)]);
    assert.deepEqual(Buffer.concat(out), Buffer.from([0x61, 0xff]));
    assert.equal(Buffer.concat(error).toString(), "no\n");
  });

  test("--tail shows the newest only, --timestamps when, --json all of it", async () => {
    const script = "echo one; sleep 0.2; echo two";
    await host.hearth(["run", "--name", "tailed", "demo:latest", "sh", "-c", script]);
    const tail = await host.hearth(["logs", "-n", "1", "-t", "tailed"]);
    assert.match(tail.stdout, /^\d{4}-\d\d-\d\dT[0-9:.]+Z two\n$/);
    const entries = lines((await host.hearth(["logs", "--json", "tailed"])).stdout);
    assert.deepEqual(
      entries.map(({ stream, data }) => [stream, Buffer.from(data, "base64").toString()]),
      [
        ["stdout", "one\n"],
        ["stdout", "two\n"],
      ],
    );
  });

  test("--follow goes on with what comes, and ctrl-C ends it", async () => {
    const script = "echo first; read line; echo second; exec sleep 1000";
    const id = await host.machine("demo:latest", "sh", "-c", script);
    const child = host.start(["logs", "-f", id]);
    await untilSaid(child, "first");
    const machine = [...host.api.apps.values()].map((machines) => machines.get(id)).find(Boolean);
    machine?.stdin?.write("go\n");
    await untilSaid(child, "second");
    child.kill("SIGINT");
    assert.equal((await ended(child)).stdout, "first\nsecond\n");
    assert.equal(child.signalCode, "SIGINT");
  });
});

describe("the life of machines", () => {
  test("stop waits until the program has ended, with the signal that was asked for", async () => {
    const id = await host.machine(...sleeper);
    const stop = await host.hearth(["stop", "-s", "SIGTERM", "-t", "7", id]);
    assert.deepEqual([stop.code, stop.stdout, state(id)], [0, `${id}\n`, "stopped"]);
    const call = host.api.calls.findLast(({ path }) => path.endsWith("/stop"));
    assert.deepEqual(call?.body, { signal: "SIGTERM", timeout: "7s" });
  });

  test("start and restart wait until the program runs", async () => {
    const id = await host.machine(...sleeper);
    await host.hearth(["stop", id]);
    const start = await host.hearth(["start", id]);
    assert.deepEqual([start.code, start.stdout, state(id)], [0, `${id}\n`, "started"]);
    const starts = (): number => host.record(id)?.events.filter(({ type }) => type === "start").length ?? 0;
    const before = starts();
    const restart = await host.hearth(["restart", "-f", id]);
    assert.deepEqual([restart.code, state(id), starts()], [0, "started", before + 1], restart.stderr);
  });

  test("what is so already is no failure", async () => {
    const id = await host.machine(...sleeper);
    assert.equal((await host.hearth(["start", id])).code, 0);
    await host.hearth(["stop", id]);
    assert.equal((await host.hearth(["stop", id])).code, 0);
  });

  test("several are acted on at once; the one that fails is named, and the rest is done", async () => {
    const [one, two] = [await host.machine("--name", "first", ...sleeper), await host.machine(...sleeper)];
    const stop = await host.hearth(["stop", "first", "nobody", two.slice(0, 8)]);
    assert.deepEqual([stop.code, stop.stdout], [1, `first\n${two.slice(0, 8)}\n`]);
    assert.match(stop.stderr, /^hearth: nobody: .*\(machine_not_found\)\n$/);
    assert.deepEqual([state(one), state(two)], ["stopped", "stopped"]);
  });

  test("with --json there is one document for all of them", async () => {
    const id = await host.machine(...sleeper);
    const rm = await host.hearth(["rm", "-f", "--json", id, "nobody"]);
    const [done, failed] = JSON.parse(rm.stdout);
    assert.deepEqual(done, { machine: id, id, ok: true });
    assert.deepEqual([failed.ok, failed.error.code, rm.code], [false, "machine_not_found", 1]);
  });

  test("rm destroys what rests, and with -f what runs", async () => {
    const id = await host.machine(...sleeper);
    const refused = await host.hearth(["rm", id]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /illegal_transition/);
    assert.equal(state(id), "started");
    assert.equal((await host.hearth(["rm", "-f", id])).code, 0);
    assert.equal(state(id), "destroyed");
  });

  test("a name that two machines have is refused with both", async () => {
    await host.machine("--name", "twin", "--app", "left", ...sleeper);
    await host.machine("--name", "twin", "--app", "right", ...sleeper);
    const stop = await host.hearth(["stop", "twin"]);
    assert.equal(stop.code, 1);
    assert.match(stop.stderr, /left\/[0-9a-f]+, right\/[0-9a-f]+.*--app/);
    assert.equal((await host.hearth(["stop", "--app", "left", "twin"])).code, 0);
  });
});
