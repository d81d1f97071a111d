/**
 * Open files of an sftp session, over the file calls of the API: these read and write whole files, from the beginning,
 * and clients do so too. A read elsewhere begins anew and skips; a write elsewhere is refused. A file that is written
 * appears when it is closed, whole, and a client that goes away before leaves nothing.
 */
import { once } from "node:events";
import { PassThrough, type Readable } from "node:stream";
import { HearthError } from "@hearth/errors";
import type { FileInfo, Files, Target } from "@hearth/sdk";

export interface FilesOf {
  readonly files: Files;
  readonly target: Target;
}

const refused = (message: string): HearthError => new HearthError("not_implemented", { message });

export class ReadFile {
  readonly #of: FilesOf;
  readonly path: string;
  #source: Readable | undefined;
  #position = 0;
  #isClosed = false;

  constructor(of: FilesOf, path: string) {
    this.#of = of;
    this.path = path;
  }

  /** Undefined at the end of the file. As many bytes as are wanted, or as there are. */
  async read(offset: number, length: number): Promise<Buffer | undefined> {
    if (this.#source === undefined || offset !== this.#position) await this.#open(offset);
    const bytes = await this.#take(length);
    this.#position += bytes.length;
    return bytes.length === 0 ? undefined : bytes;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#source?.destroy();
  }

  async #open(offset: number): Promise<void> {
    this.#source?.destroy();
    const { files, target } = this.#of;
    this.#source = await files.read(target, this.path);
    // What happens between two reads is told by the next.
    this.#source.on("error", () => undefined);
    // The client may have left while the file was opened.
    if (this.#isClosed) this.#source.destroy();
    for (let left = offset; left > 0; ) {
      const skipped = await this.#take(Math.min(left, 256 * 1024));
      if (skipped.length === 0) break;
      left -= skipped.length;
    }
    this.#position = offset;
  }

  async #take(length: number): Promise<Buffer> {
    const source = this.#source;
    const pieces: Buffer[] = [];
    for (let left = length; source !== undefined && left > 0; ) {
      const piece: Buffer | null = source.read(Math.min(left, source.readableLength || left));
      if (piece !== null) {
        pieces.push(piece);
        left -= piece.length;
      } else if (source.errored !== null) throw source.errored;
      else if (source.readableEnded || source.destroyed) break;
      else await changed(source);
    }
    return Buffer.concat(pieces);
  }
}

/** Resolves when there may be more, or nothing more; what broke is looked up by the caller. */
async function changed(source: Readable): Promise<void> {
  const settled = new AbortController();
  const { signal } = settled;
  try {
    await Promise.race(["readable", "end", "close"].map((event) => once(source, event, { signal })));
  } catch (thrown) {
    throw source.errored ?? thrown;
  } finally {
    settled.abort();
  }
}

export interface WriteWish {
  readonly path: string;
  readonly mode: number | undefined;
  /** Of the file that is there, where it is not to be emptied first. */
  readonly keeps: FileInfo | undefined;
}

export class WriteFile {
  readonly path: string;
  readonly #keeps: FileInfo | undefined;
  readonly #bytes = new PassThrough({ highWaterMark: 1024 * 1024 });
  readonly #aborting = new AbortController();
  readonly #written: Promise<void>;
  #failure: unknown;
  #position = 0;
  /** As a client that overwrites a file in place says it at the end. */
  size: number | undefined;

  constructor({ files, target }: FilesOf, { path, mode, keeps }: WriteWish) {
    this.path = path;
    this.#keeps = keeps;
    const within = { ...target, signal: this.#aborting.signal };
    this.#bytes.on("error", () => undefined);
    this.#written = files.write(within, path, this.#bytes, mode === undefined ? {} : { mode });
    this.#written.catch((thrown: unknown) => {
      this.#failure = thrown;
      this.#bytes.destroy();
    });
  }

  get position(): number {
    return this.#position;
  }

  async write(offset: number, data: Buffer): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (offset !== this.#position)
      throw refused("Files are written from the beginning to the end here; copy the whole file.");
    this.#position += data.length;
    // The client waits for its answers, so what is held here has a limit.
    if (!this.#bytes.write(data)) await Promise.race([once(this.#bytes, "drain"), this.#written]);
    if (this.#failure !== undefined) throw this.#failure;
  }

  async close(): Promise<void> {
    const kept = this.#keeps?.size ?? 0;
    if (kept > this.#position && this.size !== this.#position) {
      await this.abort();
      throw refused("A part of a file cannot be replaced here; write all of it.");
    }
    this.#bytes.end();
    await this.#written;
  }

  /** The file stays as it was. */
  async abort(): Promise<void> {
    this.#aborting.abort();
    this.#bytes.destroy();
    await this.#written.catch(() => undefined);
  }
}
