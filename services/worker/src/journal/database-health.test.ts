/** A database that cannot be written, and one that is damaged: real files, a real full disk, a real worker. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, type TestContext, test } from "node:test";
import { HearthError, type HearthErrorCode } from "@hearth/errors";
import type { MachineAnswer, NodeFact } from "@hearth/machine";
import { agentProgram } from "../testing/agent-guest.ts";
import { missing, startNode } from "../testing/node-fixture.ts";
import { startWorker, type WorkerFixture } from "../testing/worker-fixture.ts";
import { databaseError, databaseFault } from "./database-fault.ts";
import { openWorkerDatabase } from "./database-open.ts";

const is = (code: HearthErrorCode) => (error: unknown) => error instanceof HearthError && error.code === code;
const skip = !existsSync(agentProgram)
  ? "the guest agent is not built"
  : process.getuid?.() !== 0
    ? "mounting needs root"
    : false;

function directory(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "hearth-db-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** A database with some pages, closed. */
function databaseIn(dir: string): string {
  const path = join(dir, "worker.db");
  const database = openWorkerDatabase(path);
  const insert = database.prepare("INSERT INTO meta (key, value) VALUES (?, ?)");
  for (let index = 0; index < 400; index += 1) insert.run(`key-${index}`, "x".repeat(500));
  database.close();
  return path;
}

/** Overwrites a whole page in the middle of the file. */
function damage(path: string): void {
  const pageBytes = 4096;
  const page = Math.floor(statSync(path).size / pageBytes / 2);
  const file = openSync(path, "r+");
  writeSync(file, Buffer.alloc(pageBytes, 0xa5), 0, pageBytes, page * pageBytes);
  closeSync(file);
}

test("a damaged page is found on opening, by the name of its file, and nothing is changed", (t) => {
  const path = databaseIn(directory(t));
  openWorkerDatabase(path).close();
  damage(path);
  const before = readFileSync(path);
  assert.throws(
    () => openWorkerDatabase(path),
    (error) => is("database_corrupt")(error) && (error as HearthError).message.includes(path),
  );
  assert.deepEqual(readFileSync(path), before);
});

test("a file that is no database is refused, and left as it is", (t) => {
  const path = join(directory(t), "worker.db");
  writeFileSync(path, "no database at all ".repeat(1000));
  assert.throws(() => openWorkerDatabase(path), is("database_corrupt"));
  assert.match(readFileSync(path, "utf8"), /^no database at all/);
});

test("a database that may only be read is told apart from one that is damaged, and from a bug", (t) => {
  const path = databaseIn(directory(t));
  const reader = new DatabaseSync(path, { readOnly: true });
  const thrownBy = (sql: string): unknown => {
    try {
      reader.exec(sql);
    } catch (error) {
      return error;
    }
    throw new Error("it was not refused");
  };
  const readOnly = thrownBy("DELETE FROM meta");
  assert.equal(databaseFault(readOnly), "unwritable");
  assert.equal(databaseFault(new HearthError("internal", { cause: readOnly })), "unwritable");
  assert.ok(is("database_unwritable")(databaseError(path, readOnly)));
  assert.equal(databaseFault(thrownBy("DELETE FROM nothing")), undefined);
  reader.close();
});

describe("a worker whose disk is full", { skip, timeout: 60_000 }, () => {
  const nodeFact = (worker: WorkerFixture) =>
    worker.replica.get(`node.${worker.config.node_id}`)?.value as NodeFact | undefined;

  async function untilNode(worker: WorkerFixture, wanted: (fact: NodeFact) => boolean): Promise<NodeFact> {
    const limit = Date.now() + 10_000;
    for (;;) {
      const fact = nodeFact(worker);
      if (Date.now() > limit) throw new Error(`not in time: ${JSON.stringify(fact)}`);
      if (fact !== undefined && wanted(fact)) return fact;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  test("takes no work and says so, leaves its machines alone, and recovers by itself", async (t) => {
    const dir = mkdtempSync(join(tmpdir(), "hearth-full-"));
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m", "hearth-test", dir]);
    try {
      await using worker = await startWorker(
        { limits: { nodeFactEveryMs: 20, probeMs: 10, longestProbeMs: 50 } },
        dir,
      );
      const { record } = await worker.create();
      await worker.state(record.id, "started");
      const rests = await worker.create({}, false);
      const [vm] = worker.host.running;
      assert.throws(() => writeFileSync(join(dir, "filler"), Buffer.alloc(4 * 2 ** 20)), { code: "ENOSPC" });

      // What fits into the pages that are there is still taken; it ends with the first that does not.
      const create = () => worker.create({ env: { LONG: "x".repeat(100_000) } }, false);
      await assert.rejects(create(), (error) => {
        assert.ok(is("database_unwritable")(error), String(error));
        assert.match((error as HearthError).message, /full.*machines run on.*Make room/);
        assert.equal((error as HearthError).retryable, true);
        return true;
      });
      const told = await untilNode(worker, ({ problems = [] }) => problems.length > 0);
      assert.equal(told.free_memory_mb, 0);
      for (const name of ["start", "stop", "destroy"] as const)
        await assert.rejects(
          worker.command(name, { machine_id: rests.record.id }),
          is("database_unwritable"),
          name,
        );
      const { record: seen } = (await worker.command("get", { machine_id: record.id })) as MachineAnswer;
      assert.equal(seen.state, "started");
      assert.deepEqual(worker.host.running, [vm], "the same virtual machine");
      assert.equal(((await worker.command("ps", { machine_id: record.id })) as unknown[]).length > 0, true);

      rmSync(join(dir, "filler"));
      const well = await untilNode(worker, ({ problems = [] }) => problems.length === 0);
      assert.ok(well.free_memory_mb > 0);
      await create();
      await worker.command("start", { machine_id: rests.record.id });
      await worker.state(rests.record.id, "started");
      t.diagnostic(`probed until ${well.published_at_ms - told.published_at_ms} ms after it was told`);
    } finally {
      execFileSync("umount", [dir]);
      rmSync(dir, { recursive: true });
    }
  });
});

describe("a worker process with a damaged database", { skip: missing(), timeout: 120_000 }, () => {
  test("refuses to start by name, again and again, and its machine runs on", async () => {
    await using node = await startNode();
    const { record } = await node.create();
    await node.state(record.id, "started");
    const [vm] = node.vms();
    await node.end("SIGTERM");
    const path = join(node.config.data_dir, "worker/worker.db");
    const whole = readFileSync(path);
    damage(path);
    const damaged = readFileSync(path);
    for (let turn = 0; turn < 2; turn += 1) {
      assert.equal(await node.startRefused(), 1);
      const last = JSON.parse(node.output.join("").trim().split("\n").at(-1) ?? "");
      assert.equal(last.level, "fatal");
      assert.ok(last.msg.includes(path), last.msg);
      assert.deepEqual(readFileSync(path), damaged);
      assert.deepEqual(node.vms(), [vm]);
    }
    writeFileSync(path, whole);
    await node.start();
    assert.deepEqual(node.vms(), [vm]);
    await node.command("destroy", { machine_id: record.id, force: true });
    await node.state(record.id, "destroyed");
    assert.deepEqual(node.vms(), []);
  });
});
