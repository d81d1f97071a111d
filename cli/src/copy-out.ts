/**
 * Out of a machine. Names and links come from a guest that may be hostile: a name is one part of a path or it is
 * refused, nothing is written through a link that came out of the guest, and links are made last.
 */
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { lstat, mkdir, open, rename, rm, stat, symlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { HearthError } from "@hearth/errors";
import type { FileInfo } from "@hearth/sdk";
import type { Copying } from "./copy-report.ts";
import { usage } from "./failure.ts";

const defaultMode = 0o644;

interface Link {
  readonly path: string;
  readonly to: string;
}

export async function copyOut(copying: Copying, source: string, target: string): Promise<void> {
  const contentOnly = source.endsWith("/.");
  const path = source.replace(/\/+\.?$/, "") || "/";
  const info = await followed(copying, path);
  const name = basename(path);
  const there = await stat(target).catch(() => undefined);
  const inside = there?.isDirectory() === true && !contentOnly && name !== "";
  const destination = inside ? join(target, name) : target;
  if (info.kind === "directory") {
    if (there !== undefined && !there.isDirectory())
      throw usage(`${source} is a directory and ${target} is not; name a directory.`);
    const links: Link[] = [];
    await copyDirectory(copying, path, destination, info.mode, links);
    for (const link of links) await makeLink(copying, link);
    return;
  }
  if (info.kind !== "file")
    throw usage(`${source} is neither a file nor a directory, so there is nothing to copy.`);
  if (there === undefined && target.endsWith("/"))
    throw usage(`There is no directory ${target}; make it first.`);
  await copyFile(copying, path, destination, info);
}

/** What the path names in the end; links within the machine are resolved by the machine. */
async function followed({ client, machine }: Copying, path: string): Promise<FileInfo> {
  let at = path;
  for (let links = 0; links < 40; links += 1) {
    const info = await client.files.stat(machine, at);
    if (info.kind !== "symlink") return info;
    const to = info.link_target ?? "";
    at = to.startsWith("/") ? to : join(dirname(at), to);
  }
  throw new HearthError("guest_path_not_found", {
    message: `${path} in the machine is a ring of symbolic links; name the file itself.`,
  });
}

async function copyDirectory(
  copying: Copying,
  from: string,
  to: string,
  mode: number,
  links: Link[],
): Promise<void> {
  const { client, machine, report } = copying;
  await makeDirectory(to, mode);
  report.directory();
  const seen = new Set<string>();
  for (const entry of await client.files.list(machine, from)) {
    const { name, kind } = entry;
    if (!isName(name) || seen.has(name)) {
      report.skip(`${from}/${JSON.stringify(name)}`, "this is no name of a file");
      continue;
    }
    seen.add(name);
    const path = join(from, name);
    const target = join(to, name);
    if (kind === "directory") await copyDirectory(copying, path, target, entry.mode, links);
    else if (kind === "file") await copyFile(copying, path, target, entry);
    else if (kind === "symlink") links.push({ path: target, to: entry.link_target ?? "" });
    else report.skip(path, "it is neither a file, a directory nor a link");
  }
}

const isName = (name: string): boolean =>
  name !== "" && name !== "." && name !== ".." && !name.includes("/") && !name.includes("\0");

/** A directory that is there is used; a link in its place is not followed. */
async function makeDirectory(path: string, mode: number): Promise<void> {
  const there = await lstat(path).catch(() => undefined);
  if (there?.isDirectory() === true) return;
  if (there?.isSymbolicLink() === true && (await stat(path).catch(() => undefined))?.isDirectory() === true)
    throw new HearthError("conflict", {
      message: `${path} is a symbolic link here, which is not written through; remove it, or copy to another place.`,
    });
  // Its owner must be able to fill it.
  await mkdir(path, { mode: (mode & 0o777) | 0o700 });
}

/** The file appears whole or not at all, unless its place is taken by something that is no file, as /dev/null. */
async function copyFile(copying: Copying, from: string, to: string, { mode }: FileInfo): Promise<void> {
  const { client, machine, report } = copying;
  const there = await lstat(to).catch(() => undefined);
  if (there?.isDirectory() === true)
    throw new HearthError("conflict", {
      message: `${to} is a directory here; remove it, or copy elsewhere.`,
    });
  const source = await client.files.read(machine, from);
  let bytes = 0;
  source.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
  });
  source.pause();
  const isPlain = there === undefined || there.isFile() || there.isSymbolicLink();
  const path = isPlain ? join(dirname(to), `.${randomBytes(6).toString("hex")}.part`) : to;
  const flags = isPlain
    ? constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
    : constants.O_WRONLY;
  try {
    const handle = await open(path, flags, (mode || defaultMode) & 0o777);
    await pipeline(source, handle.createWriteStream());
    if (isPlain) await rename(path, to);
  } catch (error) {
    source.destroy();
    if (isPlain) await rm(path, { force: true });
    throw error;
  }
  report.file(bytes);
}

async function makeLink({ report }: Copying, { path, to }: Link): Promise<void> {
  const there = await lstat(path).catch(() => undefined);
  if (there?.isDirectory() === true) return report.skip(path, "a directory is in its place");
  if (there !== undefined) await rm(path);
  await symlink(to, path);
  report.link();
}
