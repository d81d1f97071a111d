/**
 * Reads the headers of a tar file at rest, and skips over the contents.
 *
 * A library for streams would read every byte and hand names and xattrs over as UTF-8 text, which ruins
 * binary values such as `security.capability`. Here all strings are latin1: one character a byte, so any
 * name and any xattr comes out of the merge as it went in. Formats: POSIX.1-2001 pax, ustar and GNU.
 */
import type { FileHandle } from "node:fs/promises";
import { HearthError } from "@hearth/errors";
import { WindowReader } from "./window-reader.ts";

export type TarType = "file" | "directory" | "symlink" | "hardlink" | "fifo" | "device";

export interface TarEntry {
  /** Bytes as latin1, exactly as written in the archive. */
  readonly name: string;
  readonly type: TarType;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSeconds: number;
  readonly linkName: string;
  /** Where the contents start in the archive. */
  readonly offset: number;
  readonly size: number;
  readonly xattrs: ReadonlyMap<string, string>;
}

const block = 512;
/** One extended header; real ones have some hundred bytes. */
const maxExtensionBytes = 1024 * 1024;
const maxPathBytes = 4096;
const xattrPrefix = "SCHILY.xattr.";

/** @throws HearthError `image_layer_hostile` when the archive is malformed or hides something. */
export async function* readTar(file: FileHandle, signal: AbortSignal): AsyncGenerator<TarEntry> {
  const { size: total } = await file.stat();
  const reader = new WindowReader(file);
  let position = 0;
  let globals = new Map<string, string>();
  let local = new Map<string, string>();
  while (position + block <= total) {
    signal.throwIfAborted();
    const header = await readExactly(reader, position, block);
    position += block;
    if (isZero(header)) break;
    verifyChecksum(header);
    const kind = String.fromCharCode(header[156] ?? 0);
    const size =
      local.has("size") && !"xgLK".includes(kind) ? decimal(local.get("size")) : numeric(header, 124, 12);
    const padded = Math.ceil(size / block) * block;
    if ("xgLK".includes(kind)) {
      if (size > maxExtensionBytes) throw hostile("an extended header is too large");
      const body = await readExactly(reader, position, size);
      if (kind === "x") local = new Map([...local, ...paxRecords(body)]);
      else if (kind === "g") globals = new Map([...globals, ...paxRecords(body)]);
      else local.set(kind === "L" ? "path" : "linkpath", text(body, 0, size));
      position += padded;
      continue;
    }
    const records = new Map([...globals, ...local]);
    local = new Map();
    // A sparse map lets a few bytes stand for terabytes, and no image tool writes one.
    if (kind === "S" || [...records.keys()].some((key) => key.startsWith("GNU.sparse."))) {
      throw hostile("it has a sparse file");
    }
    const type = typeOf(kind, header);
    const contents = type === "file" ? size : 0;
    const skip = type === "file" || kind === "5" ? padded : 0;
    if (position + contents > total) throw hostile("it ends in the middle of a file");
    yield entryOf(header, records, { type, offset: position, size: contents });
    position += skip;
  }
}

/** The refusal that all parts of the merge use; `reason` completes "A layer was refused because". */
export function hostile(reason: string, name?: string): HearthError {
  const path = name === undefined ? {} : { path: Buffer.from(name, "latin1").toString("utf8").slice(0, 256) };
  return new HearthError("image_layer_hostile", {
    message: `A layer of the image was refused because ${reason}; rebuild the image without it.`,
    details: { reason, ...path },
  });
}

function entryOf(
  header: Buffer,
  records: ReadonlyMap<string, string>,
  at: { type: TarType; offset: number; size: number },
): TarEntry {
  const xattrs = new Map<string, string>();
  for (const [key, value] of records) {
    if (key.startsWith(xattrPrefix)) xattrs.set(key.slice(xattrPrefix.length), value);
  }
  const ustar = header.toString("latin1", 257, 263) === "ustar\0";
  const prefix = ustar ? text(header, 345, 155) : "";
  const short = text(header, 0, 100);
  const name = records.get("path") ?? (prefix === "" ? short : `${prefix}/${short}`);
  const linkName = records.get("linkpath") ?? text(header, 157, 100);
  if (name.length > maxPathBytes || linkName.length > maxPathBytes) throw hostile("a path is too long", name);
  if (name.includes("\0") || linkName.includes("\0")) throw hostile("a path has a zero byte", name);
  const mtime = records.get("mtime");
  return {
    ...at,
    // An old archive writes a directory as a file whose name ends with a slash.
    type: at.type === "file" && name.endsWith("/") && at.size === 0 ? "directory" : at.type,
    name,
    linkName,
    xattrs,
    mode: numeric(header, 100, 8) & 0o7777,
    uid: identity(records.has("uid") ? decimal(records.get("uid")) : numeric(header, 108, 8), name),
    gid: identity(records.has("gid") ? decimal(records.get("gid")) : numeric(header, 116, 8), name),
    // squashfs keeps unsigned 32-bit seconds; out of that range there is nothing true to store.
    mtimeSeconds: clamp(
      mtime === undefined ? signedNumeric(header, 136, 12) : Math.floor(Number(mtime)),
      0xffffffff,
    ),
  };
}

function typeOf(kind: string, header: Buffer): TarType {
  switch (kind) {
    case "0":
    case "\0":
    case "7":
      return "file";
    case "1":
      return "hardlink";
    case "2":
      return "symlink";
    case "3":
    case "4":
      return "device";
    case "5":
      return "directory";
    case "6":
      return "fifo";
    default:
      throw hostile("it has an entry of an unknown type", text(header, 0, 100));
  }
}

function paxRecords(body: Buffer): Map<string, string> {
  const records = new Map<string, string>();
  let start = 0;
  while (start < body.length && body[start] !== 0) {
    const space = body.indexOf(0x20, start);
    const length = space < 0 ? Number.NaN : Number(body.toString("latin1", start, space));
    const end = start + length;
    const equals = body.indexOf(0x3d, space);
    const sound =
      Number.isSafeInteger(length) && length > 0 && end <= body.length && equals > space && equals < end;
    if (!sound) throw hostile("an extended header is malformed");
    records.set(body.toString("latin1", space + 1, equals), body.toString("latin1", equals + 1, end - 1));
    start = end;
  }
  return records;
}

function signedNumeric(header: Buffer, start: number, length: number): number {
  return header[start] === 0xff ? 0 : numeric(header, start, length);
}

/** Octal text, or GNU base-256 when the first bit is set. */
function numeric(header: Buffer, start: number, length: number): number {
  const first = header[start] ?? 0;
  let value = 0;
  if (first & 0x80) {
    value = first & 0x7f;
    for (let index = start + 1; index < start + length; index++) value = value * 256 + (header[index] ?? 0);
  } else {
    const digits = text(header, start, length).trim();
    if (!/^[0-7]*$/.test(digits)) throw hostile("a header has a malformed number");
    value = digits === "" ? 0 : Number.parseInt(digits, 8);
  }
  if (!Number.isSafeInteger(value)) throw hostile("a header has a number out of range");
  return value;
}

function decimal(digits: string | undefined): number {
  const value = /^[0-9]+$/.test(digits ?? "") ? Number(digits) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw hostile("a header has a malformed number");
  return value;
}

/** Linux ids have 32 bits, and the last one means "no id". */
function identity(id: number, name: string): number {
  if (id >= 0xffffffff) throw hostile("an owner is out of range", name);
  return id;
}

function clamp(value: number, most: number): number {
  return Number.isFinite(value) ? Math.min(Math.max(value, 0), most) : 0;
}

function text(buffer: Buffer, start: number, length: number): string {
  const slice = buffer.subarray(start, start + length);
  const end = slice.indexOf(0);
  return slice.toString("latin1", 0, end < 0 ? slice.length : end);
}

function verifyChecksum(header: Buffer): void {
  let sum = 8 * 0x20;
  for (let index = 0; index < block; index++) if (index < 148 || index >= 156) sum += header[index] ?? 0;
  if (sum !== numeric(header, 148, 8)) throw hostile("a header has a wrong checksum");
}

function isZero(header: Buffer): boolean {
  return header.every((byte) => byte === 0);
}

async function readExactly(reader: WindowReader, position: number, size: number): Promise<Buffer> {
  const bytes = await reader.read(position, size);
  if (bytes.length < size) throw hostile("it ends in the middle of a header");
  return bytes;
}
