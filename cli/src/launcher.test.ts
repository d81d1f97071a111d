/** The launcher, the table of commands, and the commands of the host where Hearth does not run. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { after, describe, test } from "node:test";
import { launcher } from "./testing/hearth-process.ts";

const directory = mkdtempSync(join(tmpdir(), "hearth-launcher-"));
after(() => rmSync(directory, { recursive: true, force: true }));

function hearth(args: readonly string[], path = launcher) {
  const { status, stdout, stderr } = spawnSync(path, args, {
    cwd: directory,
    encoding: "utf8",
    timeout: 60_000,
    env: {
      PATH: process.env.PATH,
      HEARTH_DATA_DIR: join(directory, "data"),
      HEARTH_RUN_DIR: join(directory, "run"),
      HEARTH_API_PORT: "1",
    },
  });
  return { code: status, stdout, stderr };
}

describe("the launcher", () => {
  test("works from any directory, through links, absolute and relative", () => {
    mkdirSync(join(directory, "bin"));
    symlinkSync(launcher, join(directory, "bin/absolute"));
    symlinkSync(relative(join(directory, "bin"), launcher), join(directory, "bin/relative"));
    symlinkSync("relative", join(directory, "bin/twice"));
    for (const name of ["absolute", "relative", "twice"])
      assert.match(hearth(["--version"], join(directory, "bin", name)).stdout, /^\d+\.\d+\.\d+\n$/, name);
  });

  test("says what to do in a checkout that is not set up", () => {
    mkdirSync(join(directory, "checkout/cli/bin"), { recursive: true });
    cpSync(launcher, join(directory, "checkout/cli/bin/hearth"));
    const run = hearth(["ps"], join(directory, "checkout/cli/bin/hearth"));
    assert.equal(run.code, 125);
    assert.match(run.stderr, /^hearth: .*checkout is not set up.*scripts\/setup\.sh/);
  });
});

describe("the table of commands", () => {
  test("help names them all, and each explains itself", () => {
    const { code, stdout } = hearth(["--help"]);
    assert.equal(code, 0);
    const names = [...stdout.matchAll(/^ {2}([a-z]+)(?:\|[a-z]+)? .* {2,}\S/gm)].map(([, name]) => name);
    const wanted = "up down run exec ps logs cp stop start restart rm images apps doctor".split(" ");
    for (const name of wanted) {
      assert.ok(names.includes(name), name);
      const help = hearth([name, "--help"]);
      assert.equal(help.code, 0);
      assert.match(help.stdout, new RegExp(`^Usage: hearth ${name}`));
      assert.match(help.stdout, /--json/, `${name} has --json`);
      assert.deepEqual(hearth(["help", name]), help);
    }
  });

  test("without a command there is help and exit code 2", () => {
    const { code, stderr } = hearth([]);
    assert.equal(code, 2);
    assert.match(stderr, /^Usage: hearth/);
  });

  test("a mistake is named, with the word that may be meant", () => {
    const { code, stderr, stdout } = hearth(["imges"]);
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, /^hearth: unknown command 'imges'.*images.*\(invalid_argument\)\n$/s);
    assert.equal(hearth(["ps", "--bogus"]).code, 2);
    assert.equal(JSON.parse(hearth(["ps", "--json", "--bogus"]).stderr).error.code, "invalid_argument");
  });
});

describe("where Hearth does not run", () => {
  test("an API of this host that does not answer says how to start it", () => {
    const { code, stderr } = hearth(["ps"]);
    assert.equal(code, 1);
    assert.match(stderr, /hearth up/);
  });

  test("down has nothing to do", () => {
    assert.deepEqual(JSON.parse(hearth(["down", "--json"]).stdout), { stopped: false });
    assert.equal(hearth(["down"]).stdout, "Hearth was not up.\n");
  });

  test("doctor names what is broken and what to do, and its exit code says so", () => {
    const { code, stdout } = hearth(["doctor", "--json"]);
    const { healthy, findings, node } = JSON.parse(stdout);
    assert.deepEqual([code, healthy, node], [1, false, null]);
    const agent = findings.find(({ name }: { name: string }) => name === "host-agent");
    assert.deepEqual([agent.level, agent.advice], ["broken", "Start it with `hearth up`."]);
    assert.ok(findings.some(({ name }: { name: string }) => name === "disk"));
    const text = hearth(["status"]);
    assert.equal(text.code, 1);
    assert.match(text.stdout, /^BROKEN Hearth does not run on this host\.\n {7}Start it/);
  });

  test("up refuses what cannot be, as JSON when that is asked for", () => {
    const { code, stderr } = hearth(["up", "--json", "--region", "No Such"]);
    assert.equal(code, 1);
    assert.equal(JSON.parse(stderr).error.details.field, "HEARTH_REGION");
  });
});
