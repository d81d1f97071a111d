/** Into a machine. */
import { open, readdir, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { HearthError } from "@hearth/errors";
import type { FileInfo } from "@hearth/sdk";
import type { Copying } from "./copy-report.ts";
import { usage } from "./failure.ts";

export async function copyIn(copying: Copying, source: string, target: string): Promise<void> {
  const contentOnly = source.endsWith("/.") || source === ".";
  const info = await stat(source);
  const path = target.replace(/\/+$/, "") || "/";
  const there = await found(copying, path);
  const inside = there?.kind === "directory" && !contentOnly;
  const destination = inside ? `${path === "/" ? "" : path}/${basename(resolve(source))}` : path;
  if (info.isDirectory()) {
    if (there !== undefined && there.kind !== "directory")
      throw usage(`${source} is a directory and ${target} is not; name a directory.`);
    return await copyDirectory(copying, source, destination);
  }
  if (there === undefined && target.endsWith("/"))
    throw usage(`There is no directory ${target} in the machine; make it first.`);
  await copyFile(copying, source, destination);
}

/** A link to a directory counts as one, as it does for cp. */
async function found({ client, machine }: Copying, path: string): Promise<FileInfo | undefined> {
  try {
    const info = await client.files.stat(machine, path);
    if (info.kind !== "symlink") return info;
    await client.files.list(machine, path);
    return { ...info, kind: "directory" };
  } catch (error) {
    const { code } = HearthError.from(error);
    if (code === "guest_path_not_found" || code === "invalid_argument") return undefined;
    throw error;
  }
}

async function copyDirectory(copying: Copying, from: string, to: string): Promise<void> {
  const { client, machine, report } = copying;
  await client.files.mkdir(machine, to, { parents: true });
  report.directory();
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const path = join(from, entry.name);
    const target = `${to === "/" ? "" : to}/${entry.name}`;
    if (entry.isDirectory()) await copyDirectory(copying, path, target);
    else if (entry.isFile()) await copyFile(copying, path, target);
    else if (entry.isSymbolicLink()) report.skip(path, "links cannot be made in machines this way");
    else report.skip(path, "it is neither a file nor a directory");
  }
}

async function copyFile({ client, machine, report }: Copying, from: string, to: string): Promise<void> {
  // Opened first, so that a file that cannot be read is not mistaken for an API that does not answer.
  await using handle = await open(from);
  const { mode, size } = await handle.stat();
  await client.files.write(machine, to, handle.createReadStream({ autoClose: false }), {
    mode: mode & 0o777,
  });
  report.file(size);
}
