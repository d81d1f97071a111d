/** What becomes of a program in the foreground, and of its machine, when somebody wants an end of it. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { type CliHost, cliHost, ended, until, untilSaid } from "./testing/hearth-process.ts";

let host: CliHost;
before(async () => {
  host = await cliHost();
});
after(() => host[Symbol.asyncDispose]());

const machines = async (): Promise<string> => (await host.hearth(["ps", "-aq"])).stdout;
const signalsSent = (): number => host.api.sessions.filter((each) => "signal" in each).length;

test("the first signal is the program's, and its answer to it is the command's", async () => {
  for (const name of ["INT", "TERM", "HUP"] as const) {
    const script = `trap 'echo got; exit 9' ${name}; echo ready; while :; do sleep 0.05; done`;
    const child = host.start(["run", "--rm", "demo:latest", "sh", "-c", script]);
    await untilSaid(child, "ready");
    child.kill(`SIG${name}`);
    const { code, stdout } = await ended(child);
    assert.deepEqual([code, stdout], [9, "ready\ngot\n"], name);
  }
});

test("a program that a signal ends makes it the exit code", async () => {
  const child = host.start(["run", "--rm", "demo:latest", "sh", "-c", "echo ready; exec sleep 1000"]);
  await untilSaid(child, "ready");
  child.kill("SIGINT");
  assert.equal((await ended(child)).code, 130);
});

test("the third destroys the machine of a program that will not hear", async () => {
  const before = await machines();
  const script = "trap '' INT TERM; echo ready; while :; do sleep 0.05; done";
  const child = host.start(["run", "demo:latest", "sh", "-c", script]);
  await untilSaid(child, "ready");
  for (const count of [1, 2]) {
    const sent = signalsSent();
    child.kill("SIGINT");
    await until(`signal ${count} is sent`, () => signalsSent() === sent + 1);
  }
  child.kill("SIGTERM");
  const { code, stderr } = await ended(child);
  assert.equal(code, 137);
  assert.match(stderr, /was destroyed/);
  assert.equal(await machines(), before);
});

test("a signal while the machine comes up reaches the program when it is there", async () => {
  // Only a program that was told ends at all.
  const child = host.start(["run", "--rm", "demo:latest", "sh", "-c", "while :; do sleep 0.05; done"]);
  const created = host.api.calls.length;
  await until("the machine is asked for", () =>
    host.api.calls.slice(created).some(({ method, path }) => method === "POST" && path.endsWith("/machines")),
  );
  child.kill("SIGTERM");
  assert.equal((await ended(child)).code, 143);
});

test("a reader that leaves stops the program and the command, quietly, and with --rm the machine goes", async () => {
  const before = await machines();
  const child = host.start(["run", "--rm", "demo:latest", "yes"]);
  const said = ended(child);
  await once(child.stdout, "data");
  child.stdout.destroy();
  const { code, stderr } = await said;
  assert.deepEqual([code, stderr], [141, ""]);
  assert.equal(await machines(), before);
});

test("a machine with --rm goes with its program also when the command was killed", async () => {
  const before = await machines();
  const child = host.start(["run", "--rm", "demo:latest", "sh", "-c", "echo ready; read line"]);
  await untilSaid(child, "ready");
  const own = (await machines()).split("\n").find((id) => id !== "" && !before.includes(id)) ?? "";
  child.kill("SIGKILL");
  await once(child, "close");
  assert.equal(host.record(own)?.state, "started", "the program goes on");
  await host.hearth(["stop", own]);
  await until("the machine is gone", async () => (await machines()) === before);
});
