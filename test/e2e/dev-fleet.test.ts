/** `hearth dev fleet`, as a person uses it: brought up, spoken to, entered, and gone with ctrl-C. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { finish, type Json, repositoryRoot } from "@hearth/testkit";

const program = join(repositoryRoot, "cli/bin/hearth");
const root = process.getuid?.() === 0 ? false : "a fleet needs root";
const readyLimitMs = 180_000;

const hearth = (args: readonly string[], environment: NodeJS.ProcessEnv = {}) =>
  finish(spawn(program, args, { env: { ...process.env, ...environment } }));

async function firstLine(child: ChildProcess): Promise<Json> {
  const ended = once(child, "exit").then(() => assert.fail("it ended before the fleet was up"));
  const said = once(child.stdout as NodeJS.ReadableStream, "data", {
    signal: AbortSignal.timeout(readyLimitMs),
  });
  const [line] = await Promise.race([said, ended]);
  return JSON.parse(String(line));
}

test("a person gets a fleet, uses it, and has nothing of it afterwards", {
  skip: root,
  timeout: 280_000,
}, async () => {
  const child = spawn(program, ["dev", "fleet", "--hosts", "2", "--apis", "1", "--json"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  try {
    const { name, directory, token_path, hosts } = await firstLine(child);
    const [one, two] = hosts;
    assert.deepEqual([one.roles, two.roles], [["worker", "api", "bus"], ["worker"]]);
    assert.equal(two.api_url, null);
    const token = readFileSync(token_path, "utf8").trim();
    const doctor = await hearth(["doctor", "--json"], { HEARTH_API_URL: one.api_url, HEARTH_TOKEN: token });
    const told = JSON.parse(doctor.stdout)
      .findings.map(({ message }: Json) => message)
      .join("\n");
    for (const { node_id } of hosts) assert.ok(told.includes(node_id), told);
    const entered = execFileSync(two.enter, ["hearth", "doctor", "--json"], {
      encoding: "utf8",
      env: { ...process.env, HEARTH_TOKEN: "", HEARTH_API_URL: "http://127.0.0.1:1" },
    });
    assert.equal(JSON.parse(entered).node.node_id, two.node_id, "a host is entered as what it is");
    const exited = once(child, "exit");
    child.kill("SIGINT");
    assert.deepEqual(await exited, [0, null]);
    assert.equal(existsSync(directory), false);
    assert.doesNotMatch(execFileSync("ip", ["-o", "link"], { encoding: "utf8" }), new RegExp(` ${name}`));
  } finally {
    child.kill("SIGKILL");
  }
});

test("a fleet that cannot be is refused, and says what could", { skip: root, timeout: 60_000 }, async () => {
  const few = await hearth(["dev", "fleet", "--hosts", "2", "--buses", "3"]);
  assert.equal(few.code, 1);
  assert.match(few.stderr, /2 hosts.*3 bus servers.*\(invalid_argument\)/);
  assert.equal((await hearth(["dev", "fleet", "--buses", "2"])).code, 2);
  const many = await hearth(["dev", "fleet", "--hosts", "99", "--json"]);
  assert.equal(JSON.parse(many.stderr.trim().split("\n").at(-1) ?? "").error.code, "invalid_argument");
});
