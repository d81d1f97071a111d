/** What the tests of this directory share: tar archives made to order, and trees read back for comparison. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { pack } from "tar-stream";
import { readTar } from "./tar-reader.ts";

export const run = promisify(execFile);

export interface TestEntry {
  readonly name: string;
  readonly type?: "file" | "directory" | "symlink" | "link" | "fifo" | "block-device" | "character-device";
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly linkname?: string;
  readonly devmajor?: number;
  readonly devminor?: number;
  readonly content?: string | Buffer;
  readonly pax?: Record<string, string>;
}

/** A tar archive with exactly these entries, in this order. */
export async function makeTar(entries: readonly TestEntry[]): Promise<Buffer> {
  const archive = pack();
  const chunks: Buffer[] = [];
  for (const { content, ...header } of entries) {
    archive.entry({ mtime: new Date(1_700_000_000_000), ...header }, content ?? "");
  }
  archive.finalize();
  for await (const chunk of archive) chunks.push(Buffer.from(chunk as Buffer));
  return Buffer.concat(chunks);
}

export interface Scratch extends AsyncDisposable {
  readonly path: string;
  write(name: string, content: Buffer | string): Promise<string>;
}

export async function scratch(): Promise<Scratch> {
  const path = await mkdtemp(join(tmpdir(), "hearth-images-"));
  return {
    path,
    write: async (name, content) => {
      await writeFile(join(path, name), content);
      return join(path, name);
    },
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  };
}

/** Every file of a directory as a line: type, mode, owner, time, xattrs, link and digest of the contents. */
export async function describeTree(directory: string, archive: string): Promise<string[]> {
  const names = ["--sort=name", "--format=pax", "--numeric-owner", "--xattrs", "--xattrs-include=*"];
  await run("tar", [...names, "-cf", archive, "-C", directory, "."]);
  const file = await open(archive);
  const bytes = await readFile(archive);
  try {
    const lines: string[] = [];
    for await (const entry of readTar(file, new AbortController().signal)) {
      const content = bytes.subarray(entry.offset, entry.offset + entry.size);
      const digest = entry.size > 0 ? createHash("sha256").update(content).digest("hex").slice(0, 12) : "-";
      const xattrs = [...entry.xattrs]
        .sort()
        .map(([key, value]) => `${key}=${Buffer.from(value, "latin1").toString("hex")}`);
      // An implicit directory has no time of its own: every implementation picks another.
      const time = entry.type === "directory" ? "" : entry.mtimeSeconds;
      const owner = `${entry.uid}:${entry.gid}`;
      lines.push(
        [entry.name, entry.type, entry.mode.toString(8), owner, time, entry.linkName, digest, ...xattrs].join(
          " ",
        ),
      );
    }
    return lines;
  } finally {
    await file.close();
  }
}
