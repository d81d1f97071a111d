import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { HearthError, type HearthErrorCode } from "@hearth/errors";
import { describeTree, makeTar, run, scratch, type TestEntry } from "./fixtures.ts";
import { type MergeLimits, mergeLayers } from "./layer-merge.ts";

const signal = new AbortController().signal;
// security.capability with bytes that are not UTF-8.
const binary = Buffer.from([1, 0, 0, 2, 0, 0x20, 0xc3, 0xff, 0x80, 10, 0]).toString("latin1");

const layers: TestEntry[][] = [
  [
    { name: "./", type: "directory", mode: 0o755 },
    { name: "usr/", type: "directory", mode: 0o755 },
    { name: "usr/bin/", type: "directory", mode: 0o755 },
    { name: "usr/bin/tool", mode: 0o4755, uid: 0, gid: 7, content: "tool" },
    { name: "usr/bin/ping", mode: 0o755, content: "ping", pax: { "SCHILY.xattr.user.note": "hello" } },
    { name: "bin", type: "symlink", linkname: "usr/bin" },
    { name: "gone", content: "gone" },
    { name: "kept", uid: 1000, gid: 1001, mode: 0o640, content: "kept" },
    { name: "linked", type: "link", linkname: "kept" },
    { name: "opaque/", type: "directory" },
    { name: "opaque/old", content: "old" },
    { name: "opaque/sub/", type: "directory" },
    { name: "opaque/sub/deep", content: "deep" },
    { name: "becomes-file/", type: "directory" },
    { name: "becomes-file/child", content: "child" },
    { name: "becomes-dir", content: "file" },
    { name: "big", content: Buffer.alloc(300_001, "x") },
    { name: "empty", content: "" },
    { name: `${"long-name-".repeat(20)}`, content: "long" },
    { name: "pipe", type: "fifo", mode: 0o600 },
    { name: "tmp/", type: "directory", mode: 0o1777 },
  ],
  [
    { name: ".wh.gone", content: "" },
    { name: "opaque/", type: "directory", mode: 0o700, uid: 3, gid: 4 },
    { name: "opaque/new", content: "new" },
    { name: "opaque/.wh..wh..opq", content: "" },
    { name: "becomes-file", content: "now a file" },
    { name: "becomes-dir/", type: "directory" },
    { name: "becomes-dir/child", content: "child" },
    { name: "bin/added", mode: 0o755, content: "through the symlink" },
    { name: "kept", uid: 5, gid: 5, mode: 0o600, content: "kept, changed" },
    { name: "dangling", type: "symlink", linkname: "/no/where" },
    { name: "big-link", type: "link", linkname: "big" },
  ],
];

async function writeLayers(
  space: { write(name: string, content: Buffer): Promise<string> },
  all: TestEntry[][],
) {
  const paths: string[] = [];
  for (const [index, entries] of all.entries())
    paths.push(await space.write(`layer-${index}.tar`, await makeTar(entries)));
  return paths;
}

test("a merged image is, file by file, what umoci unpacks", async () => {
  await using space = await scratch();
  const layerPaths = await writeLayers(space, layers);
  const at = (name: string): string => join(space.path, name);
  await mergeLayers({ layerPaths, outputPath: at("out.squashfs"), signal });
  await run("unsquashfs", ["-d", at("ours"), at("out.squashfs")]);
  await run("umoci", ["init", "--layout", at("oci")]);
  await run("umoci", ["new", "--image", `${at("oci")}:t`]);
  for (const path of layerPaths) await run("umoci", ["raw", "add-layer", "--image", `${at("oci")}:t`, path]);
  await run("umoci", ["unpack", "--image", `${at("oci")}:t`, at("bundle")]);
  assert.deepEqual(
    await describeTree(at("ours"), at("a.tar")),
    await describeTree(at("bundle/rootfs"), at("b.tar")),
  );
});

test("the same layers give the same bytes", async () => {
  await using space = await scratch();
  const layerPaths = await writeLayers(space, layers);
  const [first, second] = [join(space.path, "1"), join(space.path, "2")];
  await mergeLayers({ layerPaths, outputPath: first, signal });
  await mergeLayers({ layerPaths, outputPath: second, signal });
  await run("cmp", [first, second]);
  // A time of the build itself would differ only when a second ticks in between.
  const { stdout } = await run("unsquashfs", ["-lln", first], { env: { ...process.env, TZ: "UTC" } });
  assert.match(stdout.split("\n")[0] ?? "", /2023-11-14 22:13 squashfs-root$/);
});

test("an xattr that is not text comes through unchanged", async () => {
  await using space = await scratch();
  // tar-stream writes UTF-8, so the bytes are put in afterwards, over a placeholder of the same length.
  const tar = await makeTar([{ name: "f", content: "f", pax: { "SCHILY.xattr.user.bin": "PLACEHOLDER" } }]);
  Buffer.from(binary, "latin1").copy(tar, tar.indexOf("PLACEHOLDER"));
  const layerPaths = [await space.write("l.tar", tar)];
  const at = (name: string): string => join(space.path, name);
  await mergeLayers({ layerPaths, outputPath: at("out"), signal });
  await run("unsquashfs", ["-d", at("ours"), at("out")]);
  const lines = await describeTree(at("ours"), at("a.tar"));
  assert.match(lines.join("\n"), new RegExp(`user.bin=${Buffer.from(binary, "latin1").toString("hex")}`));
});

const refused: [string, TestEntry[], HearthErrorCode, Partial<MergeLimits>?][] = [
  ["a path with ..", [{ name: "a/../../etc/passwd", content: "x" }], "image_layer_hostile"],
  [
    "a hard link out of the root",
    [{ name: "l", type: "link", linkname: "../../etc/shadow" }],
    "image_layer_hostile",
  ],
  [
    "a hard link to a host path",
    [{ name: "l", type: "link", linkname: "/etc/shadow" }],
    "image_layer_hostile",
  ],
  [
    "a hard link to a directory",
    [
      { name: "d/", type: "directory" },
      { name: "l", type: "link", linkname: "d" },
    ],
    "image_layer_hostile",
  ],
  [
    "a block device",
    [{ name: "sda", type: "block-device", devmajor: 8, devminor: 0 }],
    "image_layer_hostile",
  ],
  [
    "a character device",
    [{ name: "mem", type: "character-device", devmajor: 1, devminor: 1 }],
    "image_layer_hostile",
  ],
  [
    "a loop of symlinks",
    [
      { name: "a", type: "symlink", linkname: "b" },
      { name: "b", type: "symlink", linkname: "a" },
      { name: "a/f", content: "x" },
    ],
    "image_layer_hostile",
  ],
  [
    "a sparse bomb",
    [{ name: "s", content: "x", pax: { "GNU.sparse.realsize": "1099511627776" } }],
    "image_layer_hostile",
  ],
  [
    "too many entries",
    [
      { name: "a", content: "" },
      { name: "b", content: "" },
    ],
    "image_layer_hostile",
    { maxEntries: 1 },
  ],
  ["too deep a nesting", [{ name: `${"d/".repeat(300)}f`, content: "" }], "image_layer_hostile"],
  ["too much content", [{ name: "a", content: "12345" }], "image_too_large", { maxBytes: 4 }],
];
for (const [what, entries, code, limits] of refused) {
  test(`${what} is refused as ${code}`, async () => {
    await using space = await scratch();
    const layerPaths = await writeLayers(space, [entries]);
    const options = {
      layerPaths,
      outputPath: join(space.path, "out"),
      signal,
      limits: { maxEntries: 1000, maxBytes: 1e6, ...limits },
    };
    await assert.rejects(
      mergeLayers(options),
      (error) => error instanceof HearthError && error.code === code,
    );
  });
}

test("a symlink to the host stays a name inside the image", async () => {
  await using space = await scratch();
  const layerPaths = await writeLayers(space, [
    [{ name: "esc", type: "symlink", linkname: "../../../../tmp" }],
    [{ name: "esc/written", content: "inside" }],
  ]);
  await mergeLayers({ layerPaths, outputPath: join(space.path, "out"), signal });
  const { stdout } = await run("unsquashfs", ["-lln", join(space.path, "out")]);
  assert.match(stdout, /squashfs-root\/tmp\/written/);
});

test("a truncated layer is refused", async () => {
  await using space = await scratch();
  const tar = await makeTar([{ name: "a", content: Buffer.alloc(5000, "a") }]);
  const layerPaths = [await space.write("l.tar", tar.subarray(0, 2048))];
  const merging = mergeLayers({ layerPaths, outputPath: join(space.path, "out"), signal });
  await assert.rejects(
    merging,
    (error) => error instanceof HearthError && error.code === "image_layer_hostile",
  );
});

test("owners above 21 bits, odd names and links to links come through", async () => {
  await using space = await scratch();
  const deep = `${"d/".repeat(60)}f`;
  const layerPaths = await writeLayers(space, [
    [
      { name: "f", content: "x", pax: { uid: "3000000000", gid: "2500000" } },
      { name: "a\nb [*]", content: "y" },
      { name: "s", type: "symlink", linkname: "f" },
      { name: "s2", type: "link", linkname: "s" },
      { name: deep, content: "deep" },
      { name: "to-deep", type: "link", linkname: deep },
    ],
  ]);
  await mergeLayers({ layerPaths, outputPath: join(space.path, "out"), signal });
  await run("unsquashfs", ["-d", join(space.path, "ours"), join(space.path, "out")]);
  const lines = (await describeTree(join(space.path, "ours"), join(space.path, "a.tar"))).join("\n");
  assert.match(lines, /^\.\/f file 644 3000000000:2500000 /m);
  assert.match(lines, /^\.\/s2 hardlink .* \.\/s -$/m);
  assert.match(lines, /^\.\/to-deep hardlink /m);
  assert.ok(lines.includes("./a\nb [*] file"));
});

test("a tree of many small files merges whole, in the order of names whatever the order of the layer", async () => {
  await using space = await scratch();
  const names = Array.from({ length: 5000 }, (_, index) => `d${index % 50}/f${index}`);
  const layerPaths = await writeLayers(space, [names.map((name) => ({ name, content: name }))]);
  await mergeLayers({ layerPaths, outputPath: join(space.path, "out"), signal });
  await run("unsquashfs", ["-d", join(space.path, "ours"), join(space.path, "out")]);
  for (const name of names) assert.equal(await readFile(join(space.path, "ours", name), "utf8"), name);
});
