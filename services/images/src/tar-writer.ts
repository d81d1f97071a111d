/** Writes a merged tree as one pax archive, directories before what they hold, names in byte order. */
import type { FileHandle } from "node:fs/promises";
import type { Inode, TreeNode } from "./layer-tree.ts";
import { WindowReader } from "./window-reader.ts";

const block = 512;
const chunkBytes = 1024 * 1024;

/** `layers[i]` holds the contents of inodes whose `layer` is `i`. The root itself is not written. */
export function writeTar(root: TreeNode, layers: readonly FileHandle[]): AsyncGenerator<Buffer> {
  return coalesce(
    pieces(
      root,
      layers.map((file) => new WindowReader(file)),
    ),
  );
}

/** Most pieces are a header of 512 bytes; a pipe wants large writes. */
async function* coalesce(small: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let held: Buffer[] = [];
  let size = 0;
  for await (const piece of small) {
    held.push(piece);
    size += piece.length;
    if (size < chunkBytes) continue;
    yield Buffer.concat(held, size);
    held = [];
    size = 0;
  }
  yield Buffer.concat(held, size);
}

async function* pieces(root: TreeNode, layers: readonly WindowReader[]): AsyncGenerator<Buffer> {
  const seen = new Map<Inode, string>();
  for (const [path, node] of walk(root)) {
    const { inode } = node;
    const first = seen.get(inode);
    if (first !== undefined) {
      yield header(path, inode, { kind: "1", linkName: first, size: 0 });
      continue;
    }
    if (inode.type !== "directory") seen.set(inode, path);
    yield header(path, inode, { kind: kinds[inode.type], linkName: inode.linkName, size: inode.size });
    if (inode.size > 0) yield* contents(inode, layers);
  }
  yield Buffer.alloc(2 * block);
}

const kinds = { file: "0", symlink: "2", directory: "5", fifo: "6" } as const;

/** All nodes below the root, depth first. */
export function* walk(root: TreeNode): Generator<[string, TreeNode]> {
  const pending: [string, TreeNode][] = [["", root]];
  while (true) {
    const next = pending.pop();
    if (next === undefined) return;
    const [path, node] = next;
    if (node !== root) yield next;
    const names = [...node.children.keys()].sort().reverse();
    for (const name of names) {
      const child = node.children.get(name);
      if (child !== undefined) pending.push([path === "" ? name : `${path}/${name}`, child]);
    }
  }
}

async function* contents(inode: Inode, layers: readonly WindowReader[]): AsyncGenerator<Buffer> {
  const layer = layers[inode.layer];
  if (layer === undefined) throw new Error("an inode names a layer that is not open");
  for (let done = 0; done < inode.size; ) {
    const wanted = Math.min(chunkBytes, inode.size - done);
    const chunk = await layer.read(inode.offset + done, wanted);
    if (chunk.length < wanted) throw new Error("a layer file became shorter while it was read");
    yield chunk;
    done += wanted;
  }
  const rest = inode.size % block;
  if (rest > 0) yield Buffer.alloc(block - rest);
}

function header(path: string, inode: Inode, as: { kind: string; linkName: string; size: number }): Buffer {
  const records: string[] = [];
  const add = (key: string, value: string): void => {
    records.push(record(key, value));
  };
  if (path.length > 100) add("path", path);
  if (as.linkName.length > 100) add("linkpath", as.linkName);
  if (inode.uid > 0o7777777) add("uid", String(inode.uid));
  if (inode.gid > 0o7777777) add("gid", String(inode.gid));
  if (as.size > 0o77777777777) add("size", String(as.size));
  if (as.kind !== "1") for (const [key, value] of inode.xattrs) add(`SCHILY.xattr.${key}`, value);
  const main = plain(path, inode, as);
  if (records.length === 0) return main;
  const body = Buffer.from(records.join(""), "latin1");
  const padding = Buffer.alloc((block - (body.length % block)) % block);
  const extension = plain("pax", inode, { kind: "x", linkName: "", size: body.length });
  return Buffer.concat([extension, body, padding, main]);
}

/** A pax record counts its own length, the digits of the length included. */
function record(key: string, value: string): string {
  const rest = key.length + value.length + 3;
  let length = rest + String(rest).length;
  if (String(length).length !== String(rest).length) length = rest + String(length).length;
  return `${length} ${key}=${value}\n`;
}

function plain(path: string, inode: Inode, as: { kind: string; linkName: string; size: number }): Buffer {
  const out = Buffer.alloc(block);
  const octal = (value: number, start: number, length: number): void => {
    const most = 8 ** (length - 1) - 1;
    out.write(
      Math.min(value, most)
        .toString(8)
        .padStart(length - 1, "0"),
      start,
      "latin1",
    );
  };
  out.write(path.slice(0, 100), 0, "latin1");
  octal(inode.mode, 100, 8);
  octal(inode.uid, 108, 8);
  octal(inode.gid, 116, 8);
  octal(as.size, 124, 12);
  octal(inode.mtimeSeconds, 136, 12);
  out.write("        ", 148, "latin1");
  out.write(as.kind, 156, "latin1");
  out.write(as.linkName.slice(0, 100), 157, "latin1");
  out.write("ustar\u000000", 257, "latin1");
  let sum = 0;
  for (const byte of out) sum += byte;
  octal(sum, 148, 8);
  return out;
}
