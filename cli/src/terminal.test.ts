/** A real terminal, made by script(1), with the command in it. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type CliHost, cliHost, launcher, until } from "./testing/hearth-process.ts";

let host: CliHost;
before(async () => {
  host = await cliHost();
  await host.machine("--name", "web", "demo:latest", "sleep", "1000");
});
after(() => host[Symbol.asyncDispose]());

/** Runs lines of shell on a terminal of their own; `$hearth` is the command. */
async function onTerminal(shell: string): Promise<void> {
  const path = join(host.directory, "on-terminal.sh");
  await writeFile(path, `stty cols 99 rows 44\n${shell}\n`);
  const child = spawn("script", ["-qec", `sh ${path}`, "/dev/null"], {
    cwd: host.directory,
    env: {
      PATH: process.env.PATH,
      HEARTH_API_URL: host.api.apiUrl,
      HEARTH_TOKEN: host.api.token,
      hearth: launcher,
    },
    stdio: ["pipe", "ignore", "inherit"],
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), 60_000);
  await once(child, "close");
  clearTimeout(timer);
}

const file = (name: string): Promise<string> => readFile(join(host.directory, name), "utf8");
const lastStart = (): Record<string, unknown> =>
  host.api.sessions.findLast((each) => "command" in each) as Record<string, unknown>;

/** The program of the fake runs on this host, so it can look at the terminal that the command is on. */
const untilRaw = (tty: string): string =>
  `for i in $(seq 200); do stty -a <${tty} >during; grep -q -e -icanon during && break; sleep 0.05; done`;

test("the terminal is transparent while the program runs, and then as before", async () => {
  const program = `${untilRaw("$(tty)").replaceAll("$(seq", "\\$(seq")}`.replaceAll(
    "during",
    `${host.directory}/during`,
  );
  await onTerminal(`stty -a >before; $hearth exec -it web sh -c "${program}"; stty -a >after`);
  assert.match(await file("during"), /-icanon/);
  assert.match(await file("before"), / icanon/);
  assert.equal(await file("after"), await file("before"));
  assert.deepEqual(lastStart().tty, { cols: 99, rows: 44 });
});

test("the terminal is as before also when the program never begins", async () => {
  await onTerminal("stty -a >before; $hearth exec -it web /no/such/program; stty -a >after");
  assert.equal(await file("after"), await file("before"));
});

test("the terminal is as before also when the command is ended from outside", async () => {
  const signalsSent = (): number => host.api.sessions.filter((each) => "signal" in each).length;
  const program = `trap : TERM; touch ${host.directory}/begun; while :; do sleep 0.05; done`;
  const run = onTerminal(
    `stty -a >before; sh -c 'echo $$ >pid; exec $hearth exec -it web sh -c "${program}"'; stty -a >after`,
  );
  await until("the program has begun", () => existsSync(join(host.directory, "begun")));
  const pid = Number(await file("pid"));
  for (const count of [1, 2]) {
    process.kill(pid, "SIGTERM");
    await until(`signal ${count} is sent`, () => signalsSent() === count);
  }
  // The program is asked no more than that.
  process.kill(pid, "SIGTERM");
  await run;
  assert.equal(await file("after"), await file("before"));
});

test("a new size of the terminal reaches the program", async () => {
  const resize = "stty cols 77 rows 33 <$(tty)";
  const wait = `for i in \\$(seq 400); do test -e ${host.directory}/seen && break; sleep 0.05; done`;
  const run = onTerminal(`$hearth exec -it web sh -c "touch ${host.directory}/on; ${resize}; ${wait}"`);
  await until("the size is told", () =>
    host.api.sessions.some(
      (each) => "cols" in each && each.cols === 77 && "rows" in each && each.rows === 33,
    ),
  );
  await writeFile(join(host.directory, "seen"), "");
  await run;
});
