import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { type CliHost, cliHost, ended, lines, peakMib, until, untilSaid } from "./testing/hearth-process.ts";

let host: CliHost;
let id: string;
before(async () => {
  host = await cliHost();
  id = await host.machine("--name", "web", "demo:latest", "sleep", "1000");
});
after(() => host[Symbol.asyncDispose]());

test("both outputs and the exit code of the program are those of the command", async () => {
  const run = await host.hearth(["exec", "web", "--", "sh", "-c", "echo hi; echo no >&2; exit 3"]);
  assert.deepEqual(run, { code: 3, stdout: "hi\n", stderr: "no\n" });
});

test("the machine is named by id, by the beginning of its id, or by name, and the dashes may be left away", async () => {
  for (const name of [id, id.slice(0, 6), "web"])
    assert.equal((await host.hearth(["exec", name, "echo", "-n", name])).stdout, name);
});

test("environment, directory, user and input are passed on", async () => {
  const args = ["-i", "-e", "COLOUR=green", "-w", "/tmp", "-u", "www:www", "--app", "default"];
  const run = await host.hearth(["exec", ...args, "web", "sh", "-c", "cat; echo $COLOUR"], "in ");
  assert.deepEqual([run.code, run.stdout], [0, "in green\n"]);
  const start = host.api.sessions.findLast((each) => "command" in each) as Record<string, unknown>;
  const { env, workdir, user, stdin, tty } = start;
  assert.deepEqual(
    [env, workdir, user, stdin, tty],
    [{ COLOUR: "green" }, "/tmp", "www:www", true, undefined],
  );
});

test("without -i the program's input is empty", async () => {
  assert.deepEqual(await host.hearth(["exec", "web", "cat"], "unread"), { code: 0, stdout: "", stderr: "" });
});

test("with --json there is the output as base64, and the end", async () => {
  const { stdout } = await host.hearth(["exec", "--json", "web", "printf", "hi"]);
  assert.deepEqual(lines(stdout), [
    { kind: "output", stream: "stdout", data: "aGk=" },
    { kind: "exited", exit_code: 0, exit_signal: 0 },
  ]);
});

describe("what cannot be", () => {
  const rows: [string, string[], number, RegExp][] = [
    ["no machine", [], 125, /machine/],
    ["no program", ["web"], 125, /hearth exec web -- ls/],
    ["a machine that is not there", ["nobody", "ls"], 125, /no machine "nobody".*machine_not_found/],
    ["an app that is not there", ["--app", "none", "web", "ls"], 125, /app_not_found/],
    ["a program that is not there", ["web", "/no/such/program"], 127, /entrypoint_not_found/],
    ["a terminal without one", ["-it", "web", "sh"], 125, /no terminal/],
    ["a terminal and JSON", ["-t", "--json", "web", "sh"], 125, /not both/],
  ];
  for (const [what, args, code, says] of rows)
    test(`${what} is ${code} and named`, async () => {
      const run = await host.hearth(["exec", ...args]);
      assert.deepEqual([run.code, run.stdout], [code, ""]);
      // With --json the error is JSON; both begin on a line of their own.
      assert.match(run.stderr, says);
    });

  test("a wrong token is named with the place where it comes from", async () => {
    const run = await ended(host.start(["exec", "web", "ls"], { HEARTH_TOKEN: "wrong" }));
    assert.equal(run.code, 125);
    assert.match(run.stderr, /HEARTH_TOKEN.*\(unauthenticated\)/);
  });

  test("an API that does not answer is named with its address", async () => {
    const run = await ended(host.start(["exec", "web", "ls"], { HEARTH_API_URL: "http://127.0.0.1:1" }));
    assert.equal(run.code, 125);
    assert.match(run.stderr, /127\.0\.0\.1:1.*\(unavailable\)/);
  });
});

test("a signal goes to the program, whose end is the end", async () => {
  const script = "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
  const child = host.start(["exec", "web", "sh", "-c", script]);
  await untilSaid(child, "ready");
  child.kill("SIGTERM");
  const { code, stdout } = await ended(child);
  assert.deepEqual([code, stdout], [9, "ready\ngot\n"]);
});

test("a reader that leaves ends the program and the command, quietly", async () => {
  const child = host.start(["exec", "web", "sh", "-c", "echo $$; exec cat /dev/zero"]);
  const said = ended(child);
  const [first] = (await once(child.stdout, "data")) as [Buffer];
  const pid = Number.parseInt(first.toString(), 10);
  child.stdout.destroy();
  const { code, stderr } = await said;
  assert.deepEqual([code, stderr], [141, ""]);
  await until("the program is gone", () => {
    try {
      return !process.kill(pid, 0);
    } catch {
      return true;
    }
  });
});

const boundMib = 190;
const manyBytes = 256 * 1024 * 1024;

test("an output that nobody reads is not held", async () => {
  const endless = ["exec", "web", "cat", "/dev/zero"];
  const idle = host.start(endless);
  await once(idle.stdout, "readable");
  // As many bytes as would show: what another one reads meanwhile.
  const busy = host.start(endless);
  let taken = 0;
  for await (const data of busy.stdout) {
    taken += (data as Buffer).length;
    if (taken >= manyBytes) break;
  }
  assert.ok(peakMib(idle) < boundMib, `${peakMib(idle)} MiB`);
  idle.kill("SIGKILL");
  await once(idle, "close");
});

test("an input that the program does not read is not held", async () => {
  const idle = host.start(["exec", "-i", "web", "sh", "-c", "echo ready; exec sleep 1000"]);
  await untilSaid(idle, "ready");
  const busy = host.start(["exec", "-i", "web", "sh", "-c", "cat > /dev/null"]);
  const block = Buffer.alloc(1024 * 1024);
  for (let sent = 0; sent < manyBytes; sent += block.length) {
    idle.stdin.write(block);
    if (!busy.stdin.write(block)) await once(busy.stdin, "drain");
  }
  busy.stdin.end();
  assert.equal((await ended(busy)).code, 0);
  assert.ok(idle.stdin.writableLength > manyBytes / 2, `${idle.stdin.writableLength} bytes wait here`);
  assert.ok(peakMib(idle) < boundMib, `${peakMib(idle)} MiB`);
  idle.kill("SIGKILL");
  await once(idle, "close");
});
