/** The main process of a real machine: started, heard, spoken to, and ended. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Exit, StartMainRequestSchema, WaitMainResponse } from "./gen/hearth/guest/v1/guest_pb.js";
import { BootedGuest, exec, missingForBoot } from "./testing/booted-guest.ts";
import { Session } from "./testing/session.ts";

const sigint = 2;
const sigkill = 9;
const sigusr1 = 10;
const sigterm = 15;
/** As in guest-agent/src/logs.rs. */
const ringBytes = 512 * 1024;

function furnish(tree: string): void {
  writeFileSync(join(tree, "etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/tmp:/bin/sh\n");
}

suite("the main process of a guest", { skip: missingForBoot(), timeout: 120_000 }, () => {
  let booted: BootedGuest;

  before(async () => {
    booted = await BootedGuest.boot({ furnish });
  });

  after(async () => {
    await booted?.[Symbol.asyncDispose]();
  });

  const start = async (script: string, options: MessageInitShape<typeof StartMainRequestSchema> = {}) =>
    await booted.client.startMain({ argv: ["/bin/sh", "-c", script], ...options });

  const exited = async (): Promise<Exit> => {
    for await (const { status } of booted.client.waitMain({}))
      if (status.case === "exited") return status.value;
    throw new Error("no exit was reported");
  };

  const logged = async (fromSeq: bigint): Promise<string> => {
    let text = "";
    for await (const { data } of booted.client.logs({ fromSeq })) text += Buffer.from(data).toString();
    return text;
  };

  const refused = (call: Promise<unknown>, code: string) =>
    assert.rejects(
      call.catch((thrown) => Promise.reject(booted.error(thrown))),
      { code },
    );

  test("is told of from before its start to its end, to each who asks", async () => {
    await refused(booted.client.signal({ pid: 0, signal: sigterm }), "conflict");
    const seen: WaitMainResponse["status"]["case"][] = [];
    const script = "while [ ! -e /tmp/go ]; do sleep 0.02; done; exit 6";
    for await (const { status } of booted.client.waitMain({})) {
      seen.push(status.case);
      if (status.case === "notStarted") await start(script);
      if (status.case === "running") {
        await refused(start(script), "conflict");
        await exec(booted.client, ": >/tmp/go");
      }
      if (status.case === "exited") assert.equal(status.value.code, 6);
    }
    assert.deepEqual(seen, ["notStarted", "running", "exited"]);
    assert.equal((await exited()).code, 6, "the exit is kept");
  });

  test("runs as its user, in its directory, with its environment", async () => {
    await booted.client.configure({ env: { COLOUR: "red", SHAPE: "round" } });
    const { firstSeq } = await start('id -u; pwd; echo "$COLOUR $SHAPE $HOME"; cat; echo end of input', {
      ...{ user: "app", workdir: "/tmp", env: { SHAPE: "square" } },
    });
    assert.equal((await exited()).code, 0);
    assert.equal(await logged(firstSeq), "1000\n/tmp\nred square /tmp\nend of input\n");
  });

  test("says by code why it did not start, and can be started after that", async () => {
    await refused(booted.client.startMain({ argv: ["/no/such"] }), "entrypoint_not_found");
    await refused(start("true", { user: "nobody" }), "guest_user_unknown");
    await start("exit 8");
    assert.equal((await exited()).code, 8);
  });

  test("loses nothing that it wrote before anybody was attached, however soon it ends", async () => {
    for (let round = 0; round < 10; round++) {
      const { firstSeq } = await start("echo out; echo err >&2; exit 3");
      await using session = Session.attach(booted.client, { fromSeq: firstSeq });
      assert.equal((await session.ended()).code, 3);
      assert.deepEqual([session.stdout, session.stderr, session.lost], ["out\n", "err\n", 0n]);
    }
  });

  test("takes input and signals from who is attached, and lives on when they leave", async () => {
    // A signal interrupts the shell's read, which then fails.
    const script =
      "trap 'echo caught' USR1; echo ready; until [ \"$line\" = two ]; do read line && echo got $line; done; cat; echo over";
    const { firstSeq, pid } = await start(script, { openStdin: true });
    const first = Session.attach(booted.client, { fromSeq: firstSeq });
    await first.says("ready\n");
    assert.deepEqual([first.attached?.pid, first.attached?.tty], [pid, false]);
    first.type("one\n");
    await first.says("got one\n");
    await first[Symbol.asyncDispose]();
    await using second = Session.attach(booted.client);
    await using beside = Session.attach(booted.client);
    await beside.started();
    await second.started();
    second.signal(sigusr1);
    await second.says("caught\n");
    second.type("two\n");
    second.closeStdin();
    assert.equal((await second.ended()).code, 0);
    assert.equal((await beside.ended()).code, 0);
    assert.equal(second.stdout, "caught\ngot two\nover\n", "who does not ask for it sees nothing old");
    assert.equal(beside.stdout, second.stdout);
  });

  test("has a terminal when it is to have one", async () => {
    const script = "trap 'stty size; exit 4' WINCH; stty size; while :; do sleep 0.02; done";
    const { firstSeq } = await start(script, { tty: true, size: { rows: 20, cols: 60 } });
    await using session = Session.attach(booted.client, { fromSeq: firstSeq });
    await session.says("20 60\r\n");
    assert.equal(session.attached?.tty, true);
    session.send({ case: "resize", value: { rows: 50, cols: 70 } });
    assert.equal((await session.ended()).code, 4);
    assert.equal(session.stdout, "20 60\r\n50 70\r\n");
  });

  test("is interrupted by ctrl-C at its terminal", async () => {
    const { firstSeq } = await start("echo ready; exec sleep 1000", { tty: true });
    await using session = Session.attach(booted.client, { fromSeq: firstSeq });
    await session.says("ready\r\n");
    session.type("\x03");
    assert.equal((await session.ended()).signal, sigint);
  });

  test("gets signals from the host, and takes along what it left behind", async () => {
    const { pid, firstSeq } = await start("setsid sleep 1000 & echo $!; exec sleep 1000");
    await using session = Session.attach(booted.client, { fromSeq: firstSeq });
    await session.says("\n");
    await booted.client.signal({ pid: 0, signal: sigterm });
    assert.deepEqual([(await session.ended()).signal, session.pid], [sigterm, pid]);
    const left = Number(session.stdout);
    await booted.until("what it left behind is gone", async () => {
      const { processes } = await booted.client.listProcesses({});
      return !processes.some((process) => process.pid === left);
    });
  });

  test("is reported when the kernel killed it for want of memory", async () => {
    await booted.client.startMain({ argv: ["tail", "/dev/zero"] });
    const { signal, oom } = await exited();
    assert.deepEqual([signal, oom], [sigkill, true]);
  });

  test("has its newest output kept, and who comes late sees from where", async () => {
    const { firstSeq } = await start(
      `i=0; while [ $i -lt 40 ]; do head -c 32768 /dev/zero; i=$((i+1)); done`,
    );
    await exited();
    let kept = 0;
    let expected: bigint | undefined;
    for await (const { seq, data, stderr, timeMs } of booted.client.logs({ fromSeq: firstSeq })) {
      assert.ok(expected === undefined ? seq > firstSeq : seq === expected, `${seq}`);
      assert.equal(stderr, false);
      assert.ok(timeMs > 0n);
      expected = seq + 1n;
      kept += data.length;
    }
    assert.ok(kept <= ringBytes && kept > ringBytes / 2, `${kept}`);
    await using late = Session.attach(booted.client, { fromSeq: firstSeq });
    await late.ended();
    assert.ok(late.lost > 0n);
    assert.equal(late.stdout.length, kept);
  });

  test("is followed over its starts", async () => {
    const { firstSeq } = await start("echo first");
    await exited();
    let text = "";
    for await (const { data } of booted.client.logs({ fromSeq: firstSeq, follow: true })) {
      text += Buffer.from(data).toString();
      if (text === "first\n") await start("echo second >&2");
      if (text === "first\nsecond\n") break;
    }
    await exited();
  });

  test("ignores the request to end: it is killed after its grace, with all others, and the machine ends", async () => {
    const { firstSeq } = await start("trap '' TERM; echo ready; while :; do sleep 0.02; done");
    await using session = Session.attach(booted.client, { fromSeq: firstSeq });
    await session.says("ready\n");
    await using other = Session.exec(
      booted.client,
      "trap '' TERM HUP; echo ready; while :; do sleep 0.02; done",
    );
    await other.says("ready\n");
    const over = booted.exit(30_000);
    await booted.client.shutdown({ graceMs: 300 });
    assert.equal((await session.ended()).signal, sigkill);
    assert.equal((await other.ended()).signal, sigkill);
    assert.deepEqual(await over, { reason: "guest", code: 0, signal: null });
  });
});
