/** The SSH gateway with the system's OpenSSH client, on a platform of this host's own. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import {
  demoImage,
  type Finished,
  finish,
  freePort,
  importDemo,
  type Json,
  type Platform,
  startPlatform,
  until,
} from "@hearth/testkit";

let platform: Platform;
let machineId: string;
const directory = mkdtempSync(join(tmpdir(), "hearth-ssh-e2e-"));
const config = join(directory, "all/config");
const limitMs = 120_000;
const machinePath = (id: string): string => `/v1/apps/door/machines/${id}`;

function start(program: string, args: readonly string[]): ChildProcess {
  return spawn(program, args, { env: { ...process.env, SSH_AUTH_SOCK: "", DISPLAY: "" } });
}

function run(program: string, args: readonly string[], input: Buffer | string = ""): Promise<Finished> {
  const child = start(program, args);
  child.stdin?.on("error", () => undefined);
  child.stdin?.end(input);
  return finish(child, limitMs);
}

const ssh = (args: readonly string[], input: Buffer | string = ""): Promise<Finished> =>
  run("ssh", ["-F", config, ...args], input);

async function issue(
  name: string,
  more: readonly string[] = [],
): Promise<{ config: string; token_id: string }> {
  const issued = await platform.hearth(["ssh", "issue", "--out", join(directory, name), "--json", ...more]);
  assert.equal(issued.code, 0, issued.stderr);
  return JSON.parse(issued.stdout);
}

async function createMachine(name: string): Promise<string> {
  const { status, body } = await platform.call("POST", "/v1/apps/door/machines", {
    name,
    config: { image: demoImage },
  });
  assert.equal(status, 200, JSON.stringify(body));
  const waited = await platform.call("GET", `${machinePath(body.id)}/wait?state=started&timeout=60`);
  assert.equal(waited.status, 200);
  return body.id;
}

const gatewayPort = (): number => Number(/Port (\d+)/.exec(readFileSync(config, "utf8"))?.[1]);
const sha256 = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");

function auditLines(): Json[] {
  return readFileSync(join(platform.dataDir, "logs/ssh.log"), "utf8")
    .split("\n")
    .filter((line) => line.includes('"audit":"ssh"'))
    .map((line) => JSON.parse(line));
}

describe("the SSH door", { timeout: 900_000 }, () => {
  before(async () => {
    platform = await startPlatform();
    await importDemo(platform);
    await platform.call("POST", "/v1/apps", { app_name: "door", org_slug: "personal" });
    machineId = await createMachine("web");
    await issue("all");
  });

  after(async () => {
    rmSync(directory, { recursive: true, force: true });
    const down = await platform?.down();
    assert.equal(down?.code, 0, down?.stderr);
  });

  test("a command runs by the names of its machine and of its app, with both outputs, input to its end, and its exit code", async () => {
    for (const name of ["web", "door", "door/web", machineId, machineId.slice(0, 8)]) {
      const ran = await ssh(["-l", name, "hearth", "cat; echo no >&2; exit 7"], "in\n");
      assert.deepEqual(ran, { code: 7, stdout: "in\n", stderr: "no\n" }, name);
    }
  });

  test("a program that a signal ended is told as that", async () => {
    const ran = await ssh(["-v", "web@hearth", "kill -TERM $$"]);
    assert.equal(ran.code, 255);
    assert.match(ran.stderr, /rtype exit-signal/);
  });

  test("a shell has a terminal of the client's size, follows it, and gets the client's terminal type", async () => {
    const script = `stty rows 31 cols 97; ssh -tt -F ${config} web@hearth`;
    const child = start("script", ["-qec", script, "/dev/null"]);
    let seen = "";
    child.stdout?.on("data", (data: Buffer) => {
      seen += data.toString();
    });
    const said = (what: RegExp) =>
      until(`${what} in ${seen}`, 60_000, async () => what.exec(seen) ?? undefined);
    child.stdin?.write("stty size; echo term=$TERM\n");
    await said(/31 97/);
    await said(/term=\w+/);
    const [pid] = execFileSync("pgrep", ["-f", `^ssh -tt -F ${config}`], { encoding: "utf8" }).split("\n");
    const tty = execFileSync("readlink", [`/proc/${pid}/fd/0`], { encoding: "utf8" }).trim();
    execFileSync("stty", ["-F", tty, "rows", "44", "cols", "155"]);
    child.stdin?.write('until [ "$(stty size)" = "44 155" ]; do :; done; echo re""sized\n');
    await said(/resized/);
    // Only the signal of the terminal ends it, and the shell stays.
    child.stdin?.write('echo be""gan; cat\n');
    await said(/began/);
    child.stdin?.write("\x03");
    // A terminal drops what was typed before the signal, and may get both at once.
    await said(/\^C/);
    child.stdin?.write('echo inter""rupted\n');
    await said(/interrupted/);
    const ended = finish(child, limitMs);
    child.stdin?.write("exit 5\n");
    assert.equal((await ended).code, 5);
  });

  test("sftp carries 32 MiB in and out unchanged, and lists, renames and removes", async () => {
    const bytes = randomBytes(32 * 1024 * 1024);
    const local = join(directory, "big");
    writeFileSync(local, bytes);
    const batch = join(directory, "batch");
    const commands = [
      ...["mkdir /tmp/d", `put ${local} /tmp/d/big`, "rename /tmp/d/big /tmp/d/moved", "ls -l /tmp/d"],
      ...[`get /tmp/d/moved ${local}.back`, "rm /tmp/d/moved", "rmdir /tmp/d", "-ls /tmp/d"],
    ];
    writeFileSync(batch, `${commands.join("\n")}\n`);
    const ran = await run("sftp", ["-F", config, "-b", batch, "web@hearth"]);
    assert.equal(ran.code, 0, ran.stderr);
    assert.match(ran.stdout, /-rw-r--r--.* 33554432 .*moved/);
    assert.match(ran.stderr, /not found/);
    assert.equal(sha256(readFileSync(`${local}.back`)), sha256(bytes));
  });

  test("an upload whose client goes away leaves nothing", async () => {
    const local = join(directory, "left");
    writeFileSync(local, randomBytes(64 * 1024 * 1024));
    const child = start("scp", ["-F", config, local, "web@hearth:/tmp/left"]);
    const ended = finish(child, limitMs);
    const over = () => auditLines().filter(({ kind, event }) => kind === "sftp" && event === "ended").length;
    const before = over();
    const running = async () => (await ssh(["web@hearth", "ls -A /tmp"])).stdout.includes("left");
    await until("bytes in the guest", 60_000, async () => ((await running()) ? true : undefined));
    child.kill("SIGKILL");
    await ended;
    await until("the end of the session", 60_000, async () => (over() > before ? true : undefined));
    await until("nothing left", 30_000, async () => ((await running()) ? undefined : true));
  });

  test("scp copies both ways and keeps mode and time with -p", async () => {
    const local = join(directory, "small");
    writeFileSync(local, "of the host\n", { mode: 0o640 });
    execFileSync("touch", ["-d", "2001-02-03T04:05:06Z", local]);
    const put = await run("scp", ["-p", "-F", config, local, "web@hearth:/tmp/small"]);
    assert.equal(put.code, 0, put.stderr);
    const stat = await ssh(["web@hearth", "stat -c '%a %Y' /tmp/small"]);
    assert.equal(stat.stdout, `640 ${Date.UTC(2001, 1, 3, 4, 5, 6) / 1000}\n`);
    const got = await run("scp", ["-F", config, "web@hearth:/tmp/small", `${local}.back`]);
    assert.equal(got.code, 0, got.stderr);
    assert.equal(readFileSync(`${local}.back`, "utf8"), "of the host\n");
    // In place: what is shorter leaves nothing of what was there.
    writeFileSync(local, "short\n");
    assert.equal((await run("scp", ["-F", config, local, "web@hearth:/tmp/small"])).code, 0);
    assert.equal((await ssh(["web@hearth", "cat /tmp/small"])).stdout, "short\n");
    const old = await run("scp", ["-O", "-F", config, "web@hearth:/nowhere", `${local}.none`]);
    assert.notEqual(old.code, 0);
  });

  test("rsync, which the image must have, copies a tree both ways, and again only what has changed", async () => {
    // The image has no C library: the host's rsync goes in with the libraries that it names.
    const libraries = execFileSync("ldd", ["/usr/bin/rsync"], { encoding: "utf8" })
      .split("\n")
      .flatMap((line) => /(\/\S+) \(0x/.exec(line)?.slice(1) ?? []);
    const packed = execFileSync("tar", ["-ch", "/usr/bin/rsync", ...libraries], {
      maxBuffer: 64 * 2 ** 20,
      stdio: ["ignore", "pipe", "ignore"],
    });
    const unpacked = await ssh(["web@hearth", "tar -xC / && rsync --version | head -n1"], packed);
    assert.equal(unpacked.code, 0, unpacked.stderr);
    const [there, back] = [join(directory, "there"), join(directory, "back")];
    mkdirSync(join(there, "below"), { recursive: true });
    writeFileSync(join(there, "bytes"), randomBytes(3 * 2 ** 20), { mode: 0o640 });
    writeFileSync(join(there, "below/script"), "#!/bin/sh\n", { mode: 0o755 });
    const rsync = (...args: string[]): Promise<Finished> =>
      run("rsync", ["-e", `ssh -F ${config}`, "-a", "--stats", ...args]);
    const up = await rsync(`${there}/`, "web@hearth:/tmp/tree/");
    assert.equal(up.code, 0, up.stderr);
    assert.match(up.stdout, /regular files transferred: 2/);
    writeFileSync(join(there, "below/script"), "#!/bin/sh\nexit 0\n", { mode: 0o755 });
    assert.match((await rsync(`${there}/`, "web@hearth:/tmp/tree/")).stdout, /regular files transferred: 1/);
    const down = await rsync("web@hearth:/tmp/tree/", `${back}/`);
    assert.equal(down.code, 0, down.stderr);
    // Names, contents, modes and times of both trees are the same.
    assert.equal(
      execFileSync("rsync", ["-ani", "--delete", "-c", `${there}/`, `${back}/`], { encoding: "utf8" }),
      "",
    );
  });

  test("a port of the machine is forwarded, and nothing else is", async () => {
    const [own, other] = [await freePort(), await freePort()];
    const forwards = ["-L", `127.0.0.1:${own}:localhost:8080`, "-L", `127.0.0.1:${other}:10.0.0.1:80`];
    const child = start("ssh", ["-F", config, "-N", ...forwards, "web@hearth"]);
    const ended = finish(child, limitMs);
    const curl = (port: number) => run("curl", ["-sS", "-m", "20", `http://127.0.0.1:${port}/`]);
    try {
      const page = await until("a page", 60_000, async () => {
        const { code, stdout } = await curl(own);
        return code === 0 ? stdout : undefined;
      });
      assert.match(page, /Hearth/);
      assert.notEqual((await curl(other)).code, 0);
    } finally {
      child.kill();
      await ended;
    }
    const refused = auditLines().filter(
      ({ kind, code }) => kind === "forward" && code === "permission_denied",
    );
    assert.ok(refused.length > 0);
  });

  test("agent and remote forwarding are refused", async () => {
    const agent = start("ssh-agent", ["-D", "-a", join(directory, "agent")]);
    try {
      await until("an agent", 10_000, async () =>
        execFileSync("ls", [directory]).includes("agent") ? true : undefined,
      );
      const child = spawn("ssh", ["-F", config, "-v", "-A", "web@hearth", "echo sock=$SSH_AUTH_SOCK"], {
        env: { ...process.env, SSH_AUTH_SOCK: join(directory, "agent") },
      });
      const ran = await finish(child, limitMs);
      assert.equal(ran.stdout, "sock=\n");
    } finally {
      agent.kill();
      await finish(agent, limitMs);
    }
    const remote = await ssh(["-o", "ExitOnForwardFailure=yes", "-R", "9:localhost:9", "web@hearth", "true"]);
    assert.equal(remote.code, 255);
    assert.match(remote.stderr, /remote port forwarding failed/);
  });

  test("a key without its certificate, and a host key that is not known, are refused", async () => {
    const key = join(directory, "alone");
    copyFileSync(join(directory, "all/key"), key);
    const alone = ["-F", "none", "-p", String(gatewayPort()), "-i", key, "-o", "IdentitiesOnly=yes"];
    const known = [
      "-o",
      `UserKnownHostsFile=${join(directory, "all/known_hosts")}`,
      "-o",
      "HostKeyAlias=hearth",
    ];
    const plain = await run("ssh", [...alone, ...known, "-o", "BatchMode=yes", "web@127.0.0.1", "true"]);
    assert.equal(plain.code, 255);
    assert.match(plain.stderr, /Permission denied \(publickey\)/);
    const stranger = await ssh(["-o", "UserKnownHostsFile=/dev/null", "web@hearth", "true"]);
    assert.equal(stranger.code, 255);
    assert.match(stranger.stderr, /Host key verification failed/);
  });

  test("a revoked token ends its sessions and opens no more, and says why", async () => {
    const { config: own, token_id } = await issue("revoked");
    const child = start("ssh", ["-F", own, "web@hearth", "echo began; sleep 1000"]);
    const ended = finish(child, limitMs);
    // What is forwarded does not pass through the API, and ends with the token too.
    const forwarding = finish(start("ssh", ["-F", own, "-N", "web@hearth"]), limitMs);
    let seen = "";
    child.stdout?.on("data", (data: Buffer) => {
      seen += data.toString();
    });
    await until("a session", 60_000, async () => (seen.includes("began") ? true : undefined));
    assert.equal((await platform.hearth(["token", "revoke", token_id])).code, 0);
    assert.notEqual((await ended).code, 0);
    assert.equal((await forwarding).code, 255);
    const again = await run("ssh", ["-F", own, "web@hearth", "true"]);
    assert.equal(again.code, 255);
    assert.match(again.stderr, /revoked/);
  });

  test("a certificate of one machine opens no other", async () => {
    const other = await createMachine("other");
    const { config: own } = await issue("narrow", ["--app", "door", "--machine", machineId]);
    assert.equal((await run("ssh", ["-F", own, "web@hearth", "true"])).code, 0);
    const refused = await run("ssh", ["-F", own, `${other}@hearth`, "true"]);
    assert.equal(refused.code, 255);
    assert.match(refused.stderr, /There is no machine/);
    await platform.call("POST", `${machinePath(other)}/stop`, {});
    await platform.call("GET", `${machinePath(other)}/wait?state=stopped&timeout=60`);
    const stopped = await ssh(["other@hearth", "true"]);
    assert.equal(stopped.code, 255);
    assert.match(stopped.stderr, /is stopped and does not run; `hearth start/);
    const copied = await run("scp", ["-F", config, "other@hearth:/etc/passwd", join(directory, "never")]);
    assert.notEqual(copied.code, 0);
    assert.match(copied.stderr, /is stopped and does not run/);
  });

  test("a certificate for an app is one for its org, so that no app of that name elsewhere is in it", async () => {
    const issued = await platform.hearth([
      "ssh",
      "issue",
      "--app",
      "door",
      "--out",
      join(directory, "of-app"),
    ]);
    assert.equal(issued.code, 0, issued.stderr);
    const { tokens } = (await platform.call("GET", "/v1/tokens")).body;
    const [newest] = tokens.filter(({ label, apps }: Json) => label === "ssh" && apps?.includes("door"));
    assert.equal(newest.org, "personal");
  });

  test("a config of somebody else's is left alone, and one of before is written again", async () => {
    const theirs = join(directory, "theirs");
    mkdirSync(theirs);
    writeFileSync(join(theirs, "config"), "Host mine\n");
    const refused = await platform.hearth(["ssh", "issue", "--out", theirs]);
    assert.equal(refused.code, 125);
    assert.match(refused.stderr, /left alone; name a directory/);
    assert.deepEqual(readdirSync(theirs), ["config"]);
    const again = await platform.hearth([
      "ssh",
      "issue",
      "--out",
      join(directory, "of-app"),
      "--expires",
      "1d",
    ]);
    assert.equal(again.code, 0, again.stderr);
  });

  test("hearth ssh connects, passes the exit code on, and leaves no certificate that counts", async () => {
    const ran = await platform.hearth(["ssh", "web", "echo hi; exit 3"]);
    assert.deepEqual({ code: ran.code, stdout: ran.stdout }, { code: 3, stdout: "hi\n" }, ran.stderr);
    const tokens = JSON.parse((await platform.hearth(["token", "list", "--json"])).stdout);
    const own = tokens.filter(({ label, machines }: Json) => label === "ssh" && machines?.[0] === machineId);
    assert.ok(own.some(({ revoked_at }: Json) => revoked_at !== undefined));
  });

  test("each session has a line when it begins, and one that says who, what, from where, how long, and its end", () => {
    const line = auditLines().find(({ kind, exit_code }) => kind === "exec" && exit_code === 7);
    const ofSession = auditLines().filter(({ session_id }) => session_id === line.session_id);
    assert.deepEqual(
      ofSession.map(({ event, machine_id, detail }) => ({ event, machine_id, detail })),
      ["began", "ended"].map((event) => ({ event, machine_id: machineId, detail: line.detail })),
    );
    assert.equal(line.machine_id, machineId);
    assert.equal(line.app, "door");
    assert.match(line.detail, /exit 7/);
    assert.match(line.remote, /^127\.0\.0\.1:\d+$/);
    assert.match(line.token_id, /^[0-9a-f]{16}$/);
    assert.ok(line.ms >= 0 && line.bytes_in === 3);
  });
});
