/** The disk of a real machine: changes on it as they happen, held still for a copy, and what is left of it. */
import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { WatchKind, type WatchResponse } from "./gen/hearth/guest/v1/guest_pb.js";
import { BootedGuest, exec, missingForBoot } from "./testing/booted-guest.ts";
import { Session } from "./testing/session.ts";

const sigterm = 15;
const { READY, CREATED, WRITTEN, REMOVED, OVERFLOW } = WatchKind;

suite("the disk of a guest", { skip: missingForBoot(), timeout: 120_000 }, () => {
  let booted: BootedGuest;

  before(async () => {
    booted = await BootedGuest.boot();
  });

  after(async () => {
    await booted?.[Symbol.asyncDispose]();
  });

  /** Runs `change` once the watch is ready, and collects what is told until `last` is. */
  const told = async (
    request: { path: string; recursive?: boolean },
    change: string,
    last: (seen: WatchResponse) => boolean,
  ): Promise<string[]> => {
    const seen: string[] = [];
    const signal = AbortSignal.timeout(30_000);
    for await (const response of booted.client.watch(request, { signal })) {
      const { kind, path, directory } = response;
      if (kind === READY) {
        const { code, output } = await exec(booted.client, change);
        assert.equal(code, 0, output);
        continue;
      }
      seen.push(`${WatchKind[kind]} ${path}${directory ? "/" : ""}`);
      if (last(response)) break;
    }
    return seen;
  };

  const refused = (call: Promise<unknown>, code: string) =>
    assert.rejects(
      call.catch((thrown) => Promise.reject(booted.error(thrown))),
      { code },
    );

  test("tells a watcher what is made, written, changed, renamed and removed", async () => {
    await exec(booted.client, "mkdir -p /watched/below; echo x >/watched/old");
    const seen = await told(
      { path: "/watched" },
      `cd /watched; : >new; echo data >>new; chmod 600 new; mv new newer; rm old
       : >below/unseen; mv newer /tmp; mv /tmp/newer back; mkdir last`,
      ({ kind, path }) => kind === CREATED && path === "last",
    );
    assert.deepEqual(seen, [
      "CREATED new",
      "WRITTEN new",
      "ATTRIBUTES new",
      "RENAMED new",
      "CREATED newer",
      "REMOVED old",
      "RENAMED newer",
      "CREATED back",
      "CREATED last/",
    ]);
  });

  test("tells of directories that are made later, and forgets those that are moved away", async () => {
    await exec(booted.client, "mkdir -p /tree/a");
    const seen = await told(
      { path: "/tree", recursive: true },
      `cd /tree; mkdir -p b/c/d; echo x >b/c/d/file; echo y >a/file; mv a /tmp/away; echo z >/tmp/away/file
       rm -r b; : >last`,
      ({ path }) => path === "last",
    );
    for (const expected of ["CREATED b/", "CREATED b/c/", "CREATED b/c/d/", "CREATED b/c/d/file"])
      assert.ok(seen.includes(expected), `${expected} in ${seen}`);
    for (const expected of ["CREATED a/file", "RENAMED a/", "REMOVED b/"])
      assert.ok(seen.includes(expected), `${expected} in ${seen}`);
    const moved = seen.indexOf("RENAMED a/");
    assert.ok(!seen.slice(moved).some((change) => change.includes(" a/file")), `${seen}`);
  });

  test("tells of the watched directory's own end, and of a single file", async () => {
    await exec(booted.client, "mkdir /brief; echo x >/single");
    const own = await told({ path: "/brief" }, "rmdir /brief", ({ kind }) => kind === REMOVED);
    assert.deepEqual(own, ["REMOVED /"]);
    const single = await told({ path: "/single" }, "echo y >>/single", ({ kind }) => kind === WRITTEN);
    assert.deepEqual(single, ["WRITTEN "]);
    const gone = await told({ path: "/single" }, "rm /single", ({ kind }) => kind === REMOVED);
    assert.equal(gone.at(-1), "REMOVED ");
    await refused(
      told({ path: "/no/such" }, "", () => true),
      "guest_path_not_found",
    );
  });

  test("says so when changes come faster than they are read, and goes on", async () => {
    await exec(booted.client, "mkdir /dev/shm/busy; echo 16 >/proc/sys/fs/inotify/max_queued_events");
    const seen = await told(
      { path: "/dev/shm/busy" },
      `awk 'BEGIN { while (i++ < 10000) { f = "/dev/shm/busy/" i % 2; print >>f; close(f) } }'; : >/dev/shm/busy/last`,
      ({ kind }) => kind === OVERFLOW,
    );
    assert.ok(seen.length > 16, `${seen.length}`);
    assert.equal(seen.at(-1), "OVERFLOW ");
  });

  test("is held still while it is frozen, and takes what waited when it is thawed", async () => {
    await booted.client.freeze({ limitMs: 60_000 });
    await booted.client.freeze({ limitMs: 60_000 });
    await using writer = Session.exec(booted.client, "echo ready; echo written >/frozen; echo done");
    await writer.says("ready\n");
    await booted.until("the writer waits for the disk", async () => {
      const { processes } = await booted.client.listProcesses({});
      return processes.find(({ pid }) => pid === writer.pid)?.state === "D";
    });
    // Calls that do not write are answered, and so are programs that do not.
    assert.equal((await exec(booted.client, "cat /etc/hosts | wc -l; ls /frozen 2>&1")).code, 1);
    assert.equal(writer.stdout, "ready\n");
    await booted.client.thaw({});
    assert.equal((await writer.ended()).code, 0);
    assert.equal((await exec(booted.client, "cat /frozen")).output, "written\n");
    await booted.client.thaw({});
  });

  test("thaws by itself when the host forgot it", async () => {
    await booted.client.freeze({ limitMs: 100 });
    const { output } = await exec(booted.client, "echo late >/late && cat /late");
    assert.equal(output, "late\n");
  });

  test("goes on being written when a frozen machine's writers are killed", async () => {
    await booted.client.freeze({ limitMs: 60_000 });
    await using writer = Session.exec(booted.client, "echo ready; echo x >/stuck");
    await writer.says("ready\n");
    writer.signal(sigterm);
    await booted.client.thaw({});
    await writer.ended();
    await booted.client.sync({});
    assert.equal((await exec(booted.client, "echo y >/free && cat /free")).output, "y\n");
  });

  test("and the rest of the machine are counted", async () => {
    const before = await booted.client.stats({});
    await exec(booted.client, "dd if=/dev/zero of=/large bs=1M count=8 2>/dev/null; sync");
    await exec(booted.client, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done");
    const stats = await booted.client.stats({});
    assert.ok(stats.diskTotalBytes > 0n && stats.diskTotalBytes <= 64n << 20n, `${stats.diskTotalBytes}`);
    const used = before.diskFreeBytes - stats.diskFreeBytes;
    assert.ok(used >= 8n << 20n && used < 10n << 20n, `${used}`);
    assert.ok(stats.memoryTotalBytes > 128n << 20n && stats.memoryTotalBytes < 192n << 20n);
    assert.ok(stats.memoryAvailableBytes > 0n && stats.memoryAvailableBytes < stats.memoryTotalBytes);
    assert.ok(stats.memoryCachedBytes > 0n);
    assert.ok(stats.cpuBusyMs > before.cpuBusyMs);
    assert.equal(stats.cpus, 1);
    assert.ok(stats.processes > 1);
    await booted.client.remove({ path: "/large" });
  });

  test("when it is full, a write is refused by code and leaves nothing", async () => {
    async function* requests() {
      yield { request: { case: "start" as const, value: { path: "/full/file", makeParents: true } } };
      const value = Buffer.alloc(256 * 1024, 1);
      for (let part = 0; part < 400; part++) yield { request: { case: "data" as const, value } };
    }
    await refused(booted.client.writeFile(requests()), "disk_full");
    await booted.until("the partial file is gone", async () => {
      const { entries } = await booted.client.listDirectory({ path: "/full" });
      return entries.length === 0;
    });
    assert.equal((await exec(booted.client, "echo room >/room && cat /room")).output, "room\n");
  });
});
