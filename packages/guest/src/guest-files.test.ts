/** Files of a real machine, as a host reads, writes and watches them. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { HearthError } from "@hearth/errors";
import { FileKind, type WriteFileStartSchema } from "./gen/hearth/guest/v1/guest_pb.js";
import { BootedGuest, exec, missingForBoot } from "./testing/booted-guest.ts";

function furnish(tree: string): void {
  writeFileSync(join(tree, "etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/tmp:/bin/sh\n");
  writeFileSync(join(tree, "etc/group"), "root:x:0:\nstaff:x:50:app\n");
}

suite("files of a guest", { skip: missingForBoot(), timeout: 120_000 }, () => {
  let booted: BootedGuest;

  before(async () => {
    booted = await BootedGuest.boot({ furnish });
  });

  after(async () => {
    await booted?.[Symbol.asyncDispose]();
  });

  const read = async (path: string, part: { offset?: bigint; limit?: bigint } = {}): Promise<string> => {
    const parts: Uint8Array[] = [];
    for await (const { data } of booted.client.readFile({ path, ...part })) parts.push(data);
    return Buffer.concat(parts).toString();
  };

  const write = async (
    path: string,
    data: Iterable<string> | AsyncIterable<string>,
    start: MessageInitShape<typeof WriteFileStartSchema> = {},
    signal?: AbortSignal,
  ): Promise<bigint> => {
    async function* requests() {
      yield { request: { case: "start" as const, value: { path, ...start } } };
      for await (const part of data) yield { request: { case: "data" as const, value: Buffer.from(part) } };
    }
    const { size } = await booted.client.writeFile(requests(), signal === undefined ? {} : { signal });
    return size;
  };

  const stat = async (path: string, follow = false) => {
    const { info } = await booted.client.stat({ path, follow });
    assert.ok(info);
    return info;
  };

  const names = async (path: string): Promise<string[]> => {
    const { entries } = await booted.client.listDirectory({ path });
    return entries.map(({ name }) => name);
  };

  const refused = async (call: Promise<unknown>, code: string): Promise<void> => {
    await assert.rejects(
      call.catch((thrown) => Promise.reject(booted.error(thrown))),
      (error) => error instanceof HearthError && error.code === code,
    );
  };

  test("are written with owner and mode, and read back whole or in part", async () => {
    const start = { mode: 0o640, uid: 1000, gid: 50, makeParents: true };
    assert.equal(await write("/data/deep/file", ["hello ", "guest"], start), 11n);
    assert.equal(await read("/data/deep/file"), "hello guest");
    assert.equal(await read("/data/deep/file", { offset: 6n }), "guest");
    assert.equal(await read("/data/deep/file", { offset: 6n, limit: 2n }), "gu");
    assert.equal(await read("/data/deep/file", { offset: 99n }), "");
    const { kind, size, mode, uid, gid, user, group } = await stat("/data/deep/file");
    assert.deepEqual(
      { kind, size, mode, uid, gid, user, group },
      { kind: FileKind.REGULAR, size: 11n, mode: 0o640, uid: 1000, gid: 50, user: "app", group: "staff" },
    );
    assert.equal((await stat("/data/deep")).uid, 1000);
    await write("/data/deep/file", [], { uid: 1000, gid: 50 });
    assert.equal((await stat("/data/deep/file")).mode, 0o640, "what replaces a file keeps its mode");
    assert.equal(await read("/data/deep/file"), "");
  });

  test("stay as they were when a write is interrupted, and nothing is left beside them", async () => {
    await write("/data/kept", ["old"], { makeParents: true });
    const left = new AbortController();
    async function* endless() {
      yield "new";
      // The write has begun once its file is there.
      while ((await names("/data")).length < before + 1) yield "";
      left.abort();
      await new Promise(() => undefined);
    }
    const before = (await names("/data")).length;
    await refused(write("/data/kept", endless(), {}, left.signal), "cancelled");
    await booted.until("the partial file is gone", async () => (await names("/data")).length === before);
    assert.equal(await read("/data/kept"), "old");
  });

  test("stay as they were when the host goes away in the middle of a write", async () => {
    await write("/lost/kept", ["old"], { makeParents: true });
    async function* cut() {
      yield "new";
      await booted.until("the write began", async () => (await names("/lost")).length === 2);
      await booted.disconnect();
      await new Promise(() => undefined);
    }
    await assert.rejects(write("/lost/kept", cut()));
    await booted.connect();
    await booted.until("the partial file is gone", async () => (await names("/lost")).length === 1);
    assert.equal(await read("/lost/kept"), "old");
  });

  test("are listed in order and in pages, links as links", async () => {
    await exec(
      booted.client,
      "mkdir -p /list/d; cd /list; touch b a 'c c'; ln -s a link; ln -s nowhere gone",
    );
    assert.deepEqual(await names("/list"), ["a", "b", "c c", "d", "gone", "link"]);
    const page = await booted.client.listDirectory({ path: "/list", after: "b", limit: 2 });
    assert.deepEqual(
      page.entries.map(({ name, kind }) => [name, kind]),
      [
        ["c c", FileKind.REGULAR],
        ["d", FileKind.DIRECTORY],
      ],
    );
    assert.equal(page.more, true);
    assert.equal((await booted.client.listDirectory({ path: "/list", after: "d" })).more, false);
    const link = await stat("/list/link");
    assert.deepEqual([link.kind, link.linkTarget], [FileKind.SYMLINK, "a"]);
    assert.equal((await stat("/list/link", true)).kind, FileKind.REGULAR);
    await refused(stat("/list/gone", true), "guest_path_not_found");
    assert.equal((await stat("/list/gone")).linkTarget, "nowhere");
  });

  test("written through a link change what it points to", async () => {
    await exec(booted.client, "mkdir /links; cd /links; echo old >file; ln -s file link");
    await write("/links/link", ["new"]);
    assert.equal(await read("/links/file"), "new");
    assert.equal((await stat("/links/link")).kind, FileKind.SYMLINK);
  });

  test("and directories are made, renamed and removed", async () => {
    const { client } = booted;
    await client.makeDirectory({ path: "/made/by/host", parents: true, mode: 0o700, uid: 1000, gid: 1000 });
    await client.makeDirectory({ path: "/made/by/host", parents: true });
    const { mode, uid } = await stat("/made/by/host");
    assert.deepEqual([mode, uid], [0o700, 1000]);
    await write("/made/by/host/file", ["x"]);
    await client.rename({ from: "/made/by", to: "/made/for" });
    assert.deepEqual(await names("/made/for/host"), ["file"]);
    await refused(client.remove({ path: "/made" }), "conflict");
    await client.remove({ path: "/made/for/host/file" });
    await client.remove({ path: "/made/for/host" });
    assert.deepEqual(await names("/made/for"), []);
    await exec(
      booted.client,
      "mkdir -p /made/kept; echo x >/made/kept/file; ln -s /made/kept /made/for/link",
    );
    await client.remove({ path: "/made/for", recursive: true });
    assert.deepEqual(await names("/made"), ["kept"]);
    assert.equal(await read("/made/kept/file"), "x\n", "what a link led to is not removed");
  });

  test("that are not there, in the way or of the wrong kind are refused by code", async () => {
    const { client } = booted;
    await exec(client, "mkfifo /fifo; echo x >/plain");
    await refused(read("/no/such"), "guest_path_not_found");
    await refused(write("/no/such/file", ["x"]), "guest_path_not_found");
    await refused(names("/no/such"), "guest_path_not_found");
    await refused(client.remove({ path: "/no/such" }), "guest_path_not_found");
    await refused(client.rename({ from: "/no/such", to: "/tmp/x" }), "guest_path_not_found");
    await refused(client.makeDirectory({ path: "/plain" }), "conflict");
    await refused(client.makeDirectory({ path: "/no/such/directory" }), "guest_path_not_found");
    await refused(read("/tmp"), "invalid_argument");
    await refused(write("/tmp", ["x"]), "invalid_argument");
    await refused(names("/plain"), "invalid_argument");
    await refused(read("/plain/below"), "invalid_argument");
    await refused(read("/fifo"), "invalid_argument");
    await refused(write("/sys/made-up", ["x"]), "permission_denied");
  });
});
