/** A tar archive as a set of named byte ranges: its headers are read once, and nothing is unpacked. */
import { type FileHandle, open } from "node:fs/promises";
import { posix } from "node:path";
import { HearthError } from "@hearth/errors";
import { maxManifestBytes, unsupported } from "./manifest.ts";
import { readTar } from "./tar-reader.ts";

export interface ArchiveRange {
  readonly offset: number;
  readonly size: number;
}

const maxEntries = 10_000;
const chunkBytes = 1024 * 1024;

export class ArchiveFile implements AsyncDisposable {
  readonly #file: FileHandle;
  readonly #members: ReadonlyMap<string, ArchiveRange>;

  private constructor(file: FileHandle, members: ReadonlyMap<string, ArchiveRange>) {
    this.#file = file;
    this.#members = members;
  }

  /** @throws HearthError `image_not_found`, `image_format_unsupported`, `image_layer_hostile` */
  static async open(path: string, signal: AbortSignal): Promise<ArchiveFile> {
    const file = await open(path).catch((cause: NodeJS.ErrnoException) => {
      throw cause.code === "ENOENT" ? new HearthError("image_not_found", { cause }) : cause;
    });
    try {
      return new ArchiveFile(file, await readMembers(file, signal));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  has(name: string): boolean {
    return this.#members.has(posix.normalize(name));
  }

  find(name: string): ArchiveRange {
    const range = this.#members.get(posix.normalize(name));
    if (range === undefined) throw unsupported(`the archive has no ${name.slice(0, 128)}`);
    return range;
  }

  async readSmall(range: ArchiveRange): Promise<Buffer> {
    if (range.size > maxManifestBytes) throw unsupported("a manifest in the archive is too large");
    const { buffer } = await this.#file.read(Buffer.alloc(range.size), 0, range.size, range.offset);
    return buffer;
  }

  async *read(range: ArchiveRange, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    for (let done = 0; done < range.size; ) {
      signal.throwIfAborted();
      const wanted = Math.min(chunkBytes, range.size - done);
      const place = range.offset + done;
      const { bytesRead, buffer } = await this.#file.read(Buffer.alloc(wanted), 0, wanted, place);
      if (bytesRead === 0) throw unsupported("the archive ends too early");
      yield buffer.subarray(0, bytesRead);
      done += bytesRead;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

/** Files by path; a layer that occurs twice is a link in older archives. */
async function readMembers(file: FileHandle, signal: AbortSignal): Promise<Map<string, ArchiveRange>> {
  const members = new Map<string, ArchiveRange>();
  const links: [string, string][] = [];
  for await (const entry of readTar(file, signal)) {
    if (members.size + links.length > maxEntries) throw unsupported("the archive has too many entries");
    const name = posix.normalize(entry.name);
    if (entry.type === "file") members.set(name, { offset: entry.offset, size: entry.size });
    if (entry.type === "symlink") links.push([name, posix.join(posix.dirname(name), entry.linkName)]);
    if (entry.type === "hardlink") links.push([name, posix.normalize(entry.linkName)]);
  }
  for (const [name, target] of links) {
    const range = members.get(target);
    if (range !== undefined) members.set(name, range);
  }
  return members;
}
