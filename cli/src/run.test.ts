import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type CliHost, cliHost, ended, lines, untilSaid } from "./testing/hearth-process.ts";

let host: CliHost;
before(async () => {
  host = await cliHost();
});
after(() => host[Symbol.asyncDispose]());

const shell = (script: string): string[] => ["demo:latest", "--", "sh", "-c", script];
const lastCreate = (): Record<string, unknown> & { config: Record<string, unknown> } =>
  host.api.calls.findLast(({ method, path }) => method === "POST" && path.endsWith("/machines"))
    ?.body as never;

describe("in the foreground", () => {
  test("both outputs and the exit code of the program are those of the command", async () => {
    const run = await host.hearth(["run", ...shell("echo hi; echo no >&2; exit 7")]);
    assert.deepEqual(run, { code: 7, stdout: "hi\n", stderr: "no\n" });
  });

  test("a program that a signal ended has 128 and the number of the signal", async () => {
    assert.equal((await host.hearth(["run", ...shell("kill -KILL $$")])).code, 137);
  });

  test("no output of a program of one moment is lost, though its machine destroys itself", async () => {
    const runs = await Promise.all(
      Array.from({ length: 5 }, (_, index) =>
        host.hearth(["run", "--rm", "demo:latest", "echo", `${index}`]),
      ),
    );
    assert.deepEqual(
      runs.map(({ code, stdout }) => [code, stdout]),
      [0, 1, 2, 3, 4].map((index) => [0, `${index}\n`]),
    );
    const { config } = lastCreate();
    assert.equal(config.auto_destroy, true);
  });

  test("with --rm nothing is left when the command has ended", async () => {
    const before = (await host.hearth(["ps", "-aq"])).stdout;
    await host.hearth(["run", "--rm", ...shell("exit 1")]);
    assert.equal((await host.hearth(["ps", "-aq"])).stdout, before);
  });

  test("without --rm the machine stays, stopped", async () => {
    await host.hearth(["run", "--name", "kept", ...shell("true")]);
    const [machine] = JSON.parse((await host.hearth(["ps", "-a", "--json"])).stdout).filter(
      ({ name }: { name: string }) => name === "kept",
    );
    assert.equal(machine.state, "stopped");
  });

  test("a program that the image has not is 127, and with --rm its machine goes", async () => {
    const before = (await host.hearth(["ps", "-aq"])).stdout;
    const run = await host.hearth(["run", "--rm", "demo:latest", "/no/such/program"]);
    assert.equal(run.code, 127);
    assert.match(run.stderr, /no program "\/no\/such\/program".*entrypoint_not_found/);
    assert.equal((await host.hearth(["ps", "-aq"])).stdout, before);
  });

  test("a connection that breaks is taken up again, and nothing is printed twice or lost", async () => {
    const go = join(host.directory, "go");
    const script = `echo one; while ! test -e ${go}; do sleep 0.02; done; echo two; exit 3`;
    const child = host.start(["run", "--rm", ...shell(script)]);
    await untilSaid(child, "one");
    host.api.dropSessions();
    await writeFile(go, "");
    assert.deepEqual(await ended(child), { code: 3, stdout: "one\ntwo\n", stderr: "" });
  });

  test("standard input goes to the program with -i", async () => {
    const run = await host.hearth(["run", "--rm", "-i", "demo:latest", "wc", "-c"], "12345");
    assert.deepEqual([run.code, run.stdout.trim()], [0, "5"]);
  });

  test("with --json there is the machine, the output as base64, and the end", async () => {
    const { stdout, code } = await host.hearth(["run", "--rm", "--json", ...shell("printf hi; exit 3")]);
    const said = lines(stdout);
    assert.equal(code, 3);
    assert.deepEqual(
      said.map(({ kind }) => kind),
      ["created", "output", "exited"],
    );
    assert.deepEqual(said[1], {
      kind: "output",
      stream: "stdout",
      data: Buffer.from("hi").toString("base64"),
    });
    assert.equal(said[2].exit_code, 3);
  });
});

describe("the configuration", () => {
  test("is what the options say", async () => {
    await writeFile(join(host.directory, "vars"), "# comment\nFROM_FILE=1\nBOTH=file\n");
    const args = ["--name", "spelt", "--app", "other", "-m", "1g", "--cpus", "2", "--region", "local"];
    const env = [
      "-e",
      "PLAIN=a=b",
      "-e",
      "PATH",
      "-e",
      "ABSENT_HERE",
      "-e",
      "BOTH=flag",
      "--env-file",
      "vars",
    ];
    const more = ["--entrypoint", "sh", "--restart", "on-failure:3", "-l", "team=x", "--stop-timeout", "9"];
    const run = await host.hearth(["run", ...args, ...env, ...more, "demo:latest", "-c", "true"]);
    assert.equal(run.code, 0, run.stderr);
    const { name, region, config } = lastCreate();
    assert.deepEqual([name, region], ["spelt", "local"]);
    assert.deepEqual(config, {
      image: "demo:latest",
      env: { FROM_FILE: "1", BOTH: "flag", PLAIN: "a=b", PATH: process.env.PATH },
      init: { entrypoint: ["sh"], cmd: ["-c", "true"] },
      guest: { cpus: 2, memory_mb: 1024 },
      metadata: { team: "x" },
      stop_config: { timeout: "9s" },
      restart: { policy: "on-failure", max_retries: 3 },
    });
    assert.ok(host.api.apps.has("other"), "an app that is named is made");
  });

  test("says nothing of what was not asked for, and does not begin a program again", async () => {
    await host.hearth(["run", ...shell("true")]);
    assert.deepEqual(lastCreate().config, {
      image: "demo:latest",
      init: { cmd: ["sh", "-c", "true"] },
      restart: { policy: "no" },
    });
    await host.machine("demo:latest");
    assert.deepEqual(lastCreate().config, { image: "demo:latest" });
  });

  test("words after the image are the command's own, also when they look like options", async () => {
    const run = await host.hearth(["run", "--rm", "demo:latest", "echo", "--rm", "-d", "--", "--json"]);
    assert.deepEqual([run.code, run.stdout], [0, "--rm -d -- --json\n"]);
  });
});

describe("in the background", () => {
  test("the id is printed when the program runs", async () => {
    const id = await host.machine(...shell("sleep 100"));
    assert.match(id, /^[0-9a-f]{14}$/);
    assert.equal(host.record(id)?.state, "started");
  });

  test("with --json the machine is printed", async () => {
    const run = await host.hearth(["run", "-d", "--json", ...shell("sleep 100")]);
    assert.equal(JSON.parse(run.stdout).state, "started");
  });

  test("a program that does not begin is an error that says why", async () => {
    const run = await host.hearth(["run", "-d", "demo:latest", "/no/such/program"]);
    assert.equal(run.code, 127);
    assert.equal(run.stdout, "");
    assert.match(run.stderr, /entrypoint_not_found/);
  });
});

describe("the image", () => {
  test("is pulled when it is not there, which stderr tells, and then it is quiet", async () => {
    const first = await host.hearth(["run", "--rm", "fresh:1", "true"]);
    assert.equal(first.code, 0, first.stderr);
    assert.equal(first.stderr, "Pulling fresh:1 1.0 KiB\nUnpacking fresh:1\n");
    assert.equal((await host.hearth(["run", "--rm", "fresh:1", "true"])).stderr, "");
  });

  test("that nobody has is 125, and no machine is made", async () => {
    const before = host.api.calls.filter(({ path }) => path.endsWith("/machines")).length;
    const run = await host.hearth(["run", "--rm", "missing:1", "true"]);
    assert.equal(run.code, 125);
    assert.match(run.stderr, /\(image_not_found\)\n$/);
    assert.equal(host.api.calls.filter(({ path }) => path.endsWith("/machines")).length, before);
  });
});

describe("what cannot be", () => {
  const rows: [string, string[], RegExp][] = [
    ["no image", [], /image/],
    ["an unknown option", ["--bogus", "demo:latest"], /--bogus/],
    ["memory that is none", ["-m", "much", "demo:latest"], /512m or 2g/],
    ["a restart policy that is none", ["--restart", "maybe", "demo:latest"], /on-failure/],
    ["both -d and -i", ["-d", "-i", "demo:latest"], /not both/],
    ["a terminal without one", ["-it", "demo:latest"], /no terminal/],
    [
      "an environment file that is not there",
      ["--env-file", "gone", "demo:latest"],
      /gone: there is no such file/,
    ],
    ["metadata without a value", ["-l", "x", "demo:latest"], /NAME=value/],
  ];
  for (const [what, args, says] of rows)
    test(`${what} is 125 and named`, async () => {
      const run = await host.hearth(["run", ...args]);
      assert.equal(run.code, 125);
      assert.match(run.stderr, says);
      assert.match(run.stderr, /^hearth: /);
      assert.equal(run.stdout, "");
    });

  test("with --json the error is JSON too", async () => {
    const run = await host.hearth(["run", "--json", "--rm", "missing:1"]);
    const { error, exit_code } = JSON.parse(run.stderr);
    assert.deepEqual([error.code, exit_code, run.code], ["image_not_found", 125, 125]);
    assert.ok(error.message.length > 10);
  });
});
