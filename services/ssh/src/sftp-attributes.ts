/** What a path is, in the form of SFTP version 3 (draft-ietf-secsh-filexfer-02, section 5): pure. */
import { posix } from "node:path";
import { HearthError, type HearthErrorCode } from "@hearth/errors";
import type { FileInfo } from "@hearth/sdk";
import type { Attributes, FileEntry } from "ssh2";

export const statusCode = {
  ok: 0,
  eof: 1,
  noSuchFile: 2,
  permissionDenied: 3,
  failure: 4,
  unsupported: 8,
} as const;

export const openFlag = { read: 1, write: 2, append: 4, create: 8, truncate: 16, exclusive: 32 } as const;

const typeBits = { file: 0o100000, directory: 0o040000, symlink: 0o120000, other: 0 } as const;
const letters = { file: "-", directory: "d", symlink: "l", other: "?" } as const;

export function attributesOf({ kind, mode, size, uid, gid, modified_ms }: FileInfo): Attributes {
  const seconds = Math.floor(modified_ms / 1000);
  return { mode: typeBits[kind] | mode, size, uid, gid, atime: seconds, mtime: seconds };
}

export function entryOf(info: FileInfo): FileEntry {
  const attrs = attributesOf(info);
  return { filename: info.name, longname: longName(info), attrs } as FileEntry;
}

/** A line as of `ls -l`, which clients show and do not parse. */
function longName({ kind, mode, size, uid, gid, modified_ms, name }: FileInfo): string {
  const bits = [...mode.toString(2).padStart(9, "0").slice(-9)];
  const rights = bits.map((bit, index) => (bit === "1" ? "rwx"[index % 3] : "-")).join("");
  const at = new Date(modified_ms).toISOString().slice(0, 16).replace("T", " ");
  return `${letters[kind]}${rights} 1 ${uid} ${gid} ${String(size).padStart(10)} ${at} ${name}`;
}

const codes: Partial<Record<HearthErrorCode, number>> = {
  guest_path_not_found: statusCode.noSuchFile,
  permission_denied: statusCode.permissionDenied,
  not_implemented: statusCode.unsupported,
};

export function statusOf(thrown: unknown): { readonly code: number; readonly text: string } {
  const { code, message } = HearthError.from(thrown);
  return { code: codes[code] ?? statusCode.failure, text: message };
}

/** @param home what a path that is not absolute begins at */
export const absolute = (path: string, home: string): string => posix.resolve(home, path);
