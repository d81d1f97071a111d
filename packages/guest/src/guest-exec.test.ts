/** Programs that a host runs in a real machine: their terminal, input, signals, user and end. */
import assert from "node:assert/strict";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ExecStartSchema } from "./gen/hearth/guest/v1/guest_pb.js";
import { BootedGuest, exec, missingForBoot } from "./testing/booted-guest.ts";
import { Session } from "./testing/session.ts";

const sigint = 2;
const sigkill = 9;
const sigusr1 = 10;
const sigterm = 15;
const pty = { rows: 30, cols: 100 };

function furnish(tree: string): void {
  writeFileSync(join(tree, "etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n");
  writeFileSync(join(tree, "etc/group"), "root:x:0:\napp:x:1000:\nstaff:x:50:app\n");
  writeFileSync(join(tree, "bin/plain"), "not a program\n");
  chmodSync(join(tree, "bin/plain"), 0o644);
  writeFileSync(join(tree, "bin/rubbish"), "\0not a program\n");
  chmodSync(join(tree, "bin/rubbish"), 0o755);
}

suite("exec in a guest", { skip: missingForBoot(), timeout: 120_000 }, () => {
  let booted: BootedGuest;

  before(async () => {
    booted = await BootedGuest.boot({ furnish });
  });

  after(async () => {
    await booted?.[Symbol.asyncDispose]();
  });

  const isGone = async (pid: number): Promise<boolean> => {
    const { processes } = await booted.client.listProcesses({});
    return !processes.some((process) => process.pid === pid);
  };

  test("gives a program a terminal of the size asked for, and tells it of a new size", async () => {
    const script = "trap 'stty size; exit 3' WINCH; stty size; tty; echo $TERM; while :; do sleep 0.02; done";
    await using session = Session.exec(booted.client, script, { pty });
    await session.says("xterm-256color\r\n");
    assert.match(session.stdout, /^30 100\r\n\/dev\/pts\/\d+\r\nxterm-256color\r\n$/);
    session.send({ case: "resize", value: { rows: 41, cols: 132 } });
    assert.equal((await session.ended()).code, 3);
    assert.match(session.stdout, /\r\n41 132\r\n$/);
    assert.equal(session.stderr, "", "a terminal has one output");
  });

  test("passes ctrl-C through the terminal to the program in its foreground, not to the shell", async () => {
    const script = "trap : INT; echo ready; cat; echo cat ended with $?; read line; echo got $line; exit 4";
    await using session = Session.exec(booted.client, script, { pty });
    await session.says("ready\r\n");
    session.type("echoed\n");
    await session.says("echoed\r\nechoed\r\n"); // once by the terminal, once by cat
    session.type("\x03");
    await session.says("cat ended with 130\r\n");
    session.type("more\n");
    assert.equal((await session.ended()).code, 4);
    assert.match(session.stdout, /got more\r\n$/);
  });

  test("ends the input of a terminal's program when told, and leaves the terminal open", async () => {
    await using session = Session.exec(booted.client, "cat; echo over; read line; echo got $line", { pty });
    session.type("word\n");
    await session.says("word\r\nword\r\n");
    session.closeStdin();
    await session.says("over\r\n");
    session.type("again\n");
    await session.ended();
    assert.match(session.stdout, /got again\r\n$/);
  });

  test("hands over input until it is closed, and both outputs apart", async () => {
    await using session = Session.exec(booted.client, "read a; echo got $a; cat; echo problem >&2; exit 7");
    session.type("one\n");
    await session.says("got one\n");
    session.type("two\n");
    await session.says("two\n");
    session.closeStdin();
    const { code, signal, oom } = await session.ended();
    assert.deepEqual([code, signal, oom], [7, 0, false]);
    assert.deepEqual([session.stdout, session.stderr], ["got one\ntwo\n", "problem\n"]);
  });

  test("delivers signals to the program and its children, and says which one ended it", async () => {
    await using caught = Session.exec(
      booted.client,
      "trap 'echo caught; exit 5' USR1; echo ready; while :; do sleep 0.02; done",
    );
    await caught.says("ready\n");
    caught.signal(sigusr1);
    assert.equal((await caught.ended()).code, 5);
    assert.match(caught.stdout, /caught\n$/);
    for (const number of [sigkill, sigterm]) {
      await using session = Session.exec(booted.client, "sleep 1000 & echo $!; wait");
      await session.says("\n");
      session.signal(number);
      const { code, signal } = await session.ended();
      assert.deepEqual([code, signal], [128 + number, number]);
      await booted.until("the child is gone, too", () => isGone(Number(session.stdout)));
    }
    await using session = Session.exec(booted.client, "echo ready; exec sleep 1000");
    await session.says("ready\n");
    session.signal(sigint);
    assert.equal((await session.ended()).signal, sigint);
  });

  test("lets a signal overtake input that the program has not read", async () => {
    await using session = Session.exec(booted.client, "echo ready; exec sleep 1000");
    await session.says("ready\n");
    for (let part = 0; part < 32; part++) session.type("y".repeat(32 * 1024));
    await booted.client.signal({ pid: session.pid, signal: sigterm, group: true });
    assert.equal((await session.ended()).signal, sigterm);
  });

  test("hangs up on a program whose caller left, and kills one that does not care", async () => {
    const polite = Session.exec(
      booted.client,
      "trap 'echo hung up >/tmp/polite; exit' HUP; echo ready; while :; do sleep 0.02; done",
    );
    await polite.says("ready\n");
    const stubborn = Session.exec(
      booted.client,
      "trap '' HUP TERM; echo ready; while :; do sleep 0.02; done",
    );
    await stubborn.says("ready\n");
    const filter = Session.exec(booted.client, "echo ready; cat >/tmp/part; mv /tmp/part /tmp/whole");
    await filter.says("ready\n");
    filter.type("half of it");
    for (const session of [polite, stubborn, filter]) await session[Symbol.asyncDispose]();
    for (const { pid } of [polite, stubborn, filter])
      await booted.until(`process ${pid} is gone`, () => isGone(pid));
    const { output } = await exec(booted.client, "cat /tmp/polite; ls /tmp/whole");
    assert.match(output, /^hung up\nls: \/tmp\/whole: No such file/);
  });

  test("runs as the user, in the directory and with the environment asked for", async () => {
    await booted.client.configure({ env: { COLOUR: "red", SHAPE: "round" } });
    const env = { SHAPE: "square", NAME: "it's a = b" };
    const script =
      'id -u; id -g; id -G; pwd; echo "$COLOUR $SHAPE $NAME $HOME"; echo "$PATH"; cat >/dev/stderr';
    const { output } = await exec(booted.client, script, { user: "app", workdir: "/tmp", env });
    const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert.equal(output, `1000\n1000\n1000 50\n/tmp\nred square it's a = b /home/app\n${path}\n`);
    const numbers = await exec(booted.client, "id -u; id -g; id -G", { user: "4321:50" });
    assert.equal(numbers.output, "4321\n50\n50\n");
    const nobody = await exec(booted.client, "cat /proc/1/environ", { user: "app" });
    assert.notEqual(nobody.code, 0, "who is not root may not look into the agent");
  });

  test("says by code why a program did not start", async () => {
    const refused = async (start: MessageInitShape<typeof ExecStartSchema>, code: string) =>
      await assert.rejects(
        exec(booted.client, "", start).catch((thrown) => Promise.reject(booted.error(thrown))),
        { code },
        JSON.stringify(start),
      );
    await refused({ argv: [] }, "invalid_argument");
    await refused({ argv: ["no-such-program"] }, "entrypoint_not_found");
    await refused({ argv: ["/etc/passwd/below"] }, "entrypoint_not_found");
    await refused({ argv: ["/bin/plain"] }, "entrypoint_not_found");
    await refused({ argv: ["/bin/rubbish"] }, "entrypoint_not_found");
    await refused({ argv: ["/tmp"] }, "entrypoint_not_found");
    await refused({ argv: ["true"], user: "nobody" }, "guest_user_unknown");
    await refused({ argv: ["true"], user: "app:nobodies" }, "guest_user_unknown");
    await refused({ argv: ["true"], workdir: "/no/such" }, "guest_path_not_found");
    await refused({ argv: ["true"], env: { PATH: "/nowhere" } }, "entrypoint_not_found");
  });

  test("reports a program that the kernel killed for want of memory, and lives on", async () => {
    const { oomKills } = await booted.client.stats({});
    const hungry = await exec(booted.client, "exec tail /dev/zero");
    assert.deepEqual([hungry.signal, hungry.oom], [sigkill, true]);
    const shell = await exec(booted.client, "tail /dev/zero; exit $?");
    assert.deepEqual([shell.code, shell.signal, shell.oom], [128 + sigkill, 0, true]);
    const killed = await exec(booted.client, "kill -9 $$");
    assert.deepEqual([killed.signal, killed.oom], [sigkill, false]);
    assert.ok((await booted.client.stats({})).oomKills >= oomKills + 2n);
  });

  test("leaves nothing unreaped: neither children nor orphans become zombies", async () => {
    const { output } = await exec(
      booted.client,
      "for i in 1 2 3 4 5; do (sh -c 'sh -c \"exit 3\" & echo $!' &); done; wait",
    );
    const orphans = output.trim().split("\n").map(Number);
    assert.equal(orphans.length, 5, output);
    for (const pid of orphans) await booted.until(`orphan ${pid} is gone`, () => isGone(pid));
    await booted.until("no zombie is left", async () => {
      const { processes } = await booted.client.listProcesses({});
      return processes.every(({ state }) => state !== "Z");
    });
  });

  test("leaves a daemon alone, and does not wait for it", async () => {
    const { output } = await exec(booted.client, "setsid sleep 1000 & echo $!");
    const pid = Number(output);
    assert.equal(await isGone(pid), false);
    const { processes } = await booted.client.listProcesses({});
    const daemon = processes.find((process) => process.pid === pid);
    assert.deepEqual([daemon?.ppid, daemon?.uid, daemon?.argv], [1, 0, ["sleep", "1000"]]);
    assert.ok((daemon?.rssBytes ?? 0n) > 0n);
    await booted.client.signal({ pid, signal: sigkill });
    await booted.until("the daemon is gone", () => isGone(pid));
    await assert.rejects(
      booted.client.signal({ pid, signal: sigkill }).catch((thrown) => Promise.reject(booted.error(thrown))),
      { code: "guest_path_not_found" },
    );
  });
});
