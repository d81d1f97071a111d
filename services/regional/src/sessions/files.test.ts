/** Files of a machine: whole or not at all, and never in memory. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { after, before, test } from "node:test";
import { HearthClient, type Target } from "@hearth/sdk";
import { FakeData } from "../testing/fake-data.ts";
import { startRegion, type TestRegion, testToken, until, untilStill } from "../testing/fixture.ts";

const mebibyte = 1024 * 1024;
const total = 128 * mebibyte;
/** A window of the bus, and what the kernel may hold for two connections. */
const heldLimit = 24 * mebibyte;
const data = new FakeData();
let region: TestRegion;
let client: HearthClient;
let target: Target;
before(async () => {
  region = await startRegion({ streams: data.handlers });
  client = new HearthClient({ apiUrl: region.url, token: testToken });
  await region.createApp("web");
  const { id } = await client.machines.create("web", { config: { image: "app:1" } });
  target = { app: "web", id };
});
after(async () => region[Symbol.asyncDispose]());

const files = (below = "") => `/v1/apps/web/machines/${target.id}/files${below}`;
const lastCommand = () => region.worker.commands.at(-1);

test("128 MiB are read as fast as they are taken", async () => {
  const source = await client.files.read(target, `/zeros/${total}`);
  const transfer = data.last;
  const stalledAt = await untilStill(() => transfer?.writtenBytes ?? 0);
  assert.ok(stalledAt > 0 && stalledAt < heldLimit, `${stalledAt} bytes were read from the node`);
  let size = 0;
  for await (const chunk of source) size += (chunk as Buffer).length;
  assert.equal(size, total);
});

test("128 MiB are written as fast as the node takes them", async () => {
  data.hold();
  const before = data.transfers.length;
  const hash = createHash("sha256");
  let sent = 0;
  const pieces = function* (): Generator<Buffer> {
    for (let index = 0; sent < total; index += 1) {
      const piece = Buffer.alloc(64 * 1024, index % 251);
      hash.update(piece);
      sent += piece.length;
      yield piece;
    }
  };
  const writing = client.files.write(target, "/held", Readable.from(pieces()), { mode: 0o640 });
  await until(() => data.transfers.length > before, "the transfer");
  const transfer = data.last;
  const stalledAt = await untilStill(() => sent);
  assert.ok(stalledAt > 0 && stalledAt < heldLimit, `${stalledAt} bytes were taken from the client`);
  data.letGo();
  await writing;
  assert.equal(transfer?.readBytes, total);
  assert.equal(transfer?.hash.digest("hex"), hash.digest("hex"));
  assert.deepEqual(transfer?.request, { machine_id: target.id, path: "/held", mode: 0o640 });
});

test("an empty file is read and written, whatever the type of the body", async () => {
  await client.files.write(target, "/empty", Buffer.alloc(0));
  assert.equal(data.last?.readBytes, 0);
  const typed = await region.call("PUT", files("?path=/typed"), '{"a":1}', {
    "content-type": "application/json",
  });
  assert.equal(typed.status, 200, typed.text);
  assert.equal(data.last?.readBytes, 7);
  const untyped = await fetch(`${region.url}${files("?path=/untyped")}`, {
    method: "PUT",
    headers: { authorization: `Bearer ${testToken}` },
  });
  assert.deepEqual(await untyped.json(), { ok: true });
  const { text } = await region.call("GET", files("?path=/zeros/0"));
  assert.equal(text, "");
});

test("a file that is not there is an error, and one that breaks cannot be taken for whole", async () => {
  await assert.rejects(client.files.read(target, "/missing"), { code: "guest_path_not_found" });
  const source = await client.files.read(target, "/broken");
  const read = async (): Promise<void> => {
    for await (const _chunk of source);
  };
  await assert.rejects(read());
});

test("a disk that is full ends the upload with its reason", async () => {
  const endless = Readable.from(
    (function* () {
      for (;;) yield Buffer.alloc(64 * 1024);
    })(),
  );
  await assert.rejects(client.files.write(target, "/full", endless), { code: "disk_full" });
});

test("a client that leaves in the middle ends the node's part", async () => {
  const before = data.transfers.length;
  const leaving = new AbortController();
  const endless = Readable.from(
    (function* () {
      for (;;) yield Buffer.alloc(64 * 1024);
    })(),
  );
  const writing = client.files.write({ ...target, signal: leaving.signal }, "/endless", endless);
  await until(() => data.transfers.length > before, "the transfer");
  const upload = data.last;
  leaving.abort();
  await assert.rejects(writing, { code: "cancelled" });
  await until(() => upload?.ended !== undefined, "the end of the upload");
  assert.equal(upload?.ended, "cancelled");

  const source = await client.files.read(target, `/zeros/${total}`);
  const download = data.last;
  source.destroy();
  await until(() => download?.ended !== undefined, "the end of the download");
  assert.equal(download?.ended, "cancelled");
});

test("what is around the bytes is asked of the node", async () => {
  const hosts = {
    name: "hosts",
    kind: "file",
    size: 3,
    mode: 0o644,
    uid: 0,
    gid: 0,
    modified_ms: 1_700_000_000_000,
  };
  assert.deepEqual(await client.files.stat(target, "/etc/hosts"), hosts);
  assert.deepEqual(await client.files.list(target, "/etc"), [hosts]);
  const machine_id = target.id;
  await client.files.mkdir(target, "/a/b", { parents: true });
  assert.deepEqual(lastCommand(), {
    name: "file-mkdir",
    request: { machine_id, path: "/a/b", parents: true },
  });
  await client.files.rename(target, "/a", "/c");
  assert.deepEqual(lastCommand(), { name: "file-rename", request: { machine_id, path: "/a", to: "/c" } });
  await client.files.remove(target, "/c", { recursive: true });
  assert.deepEqual(lastCommand(), {
    name: "file-remove",
    request: { machine_id, path: "/c", recursive: true },
  });
  await assert.rejects(client.files.stat(target, "/missing"), { code: "guest_path_not_found" });
});

test("a path that is not absolute, and a mode that is none, are refused by name", async () => {
  const cases: readonly (readonly [method: string, below: string, field: string])[] = [
    ["GET", "?path=etc", "path"],
    ["GET", "", "path"],
    ["GET", "/stat?path=", "path"],
    ["PUT", "?path=/a&mode=4096", "mode"],
    ["PUT", "?path=/a&mode=rw", "mode"],
    ["DELETE", "?path=/a&recursive=perhaps", "recursive"],
  ];
  for (const [method, below, field] of cases) {
    const { status, json } = await region.call(method, files(below));
    assert.deepEqual([status, json.details?.field], [400, field], `${method} ${below}`);
  }
  const renamed = await region.call("POST", files("/rename"), { path: "/a", to: "b" });
  assert.deepEqual([renamed.status, renamed.json.details.field], [400, "to"]);
});
