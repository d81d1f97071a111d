/**
 * Bytes on their way to disk, hashed as they pass. A file gets its final name only after its digest is
 * right, so whatever stands under a final name is good; a partial file keeps its bytes for a resume.
 */
import { createHash, type Hash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { open, rename, rm, stat } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { HearthError } from "@hearth/errors";
import type { ImageSource } from "./image-source.ts";
import { type Descriptor, unsupported } from "./manifest.ts";

export interface FetchOptions {
  readonly source: ImageSource;
  readonly descriptor: Descriptor;
  readonly partialPath: string;
  readonly finalPath: string;
  readonly signal: AbortSignal;
  readonly onBytes: (count: number) => void;
}

/** @throws HearthError `image_digest_mismatch`, `disk_full` and what the source throws */
export async function fetchBlob(options: FetchOptions): Promise<void> {
  const { source, descriptor, partialPath, signal } = options;
  const held = await sizeOrZero(partialPath);
  if (held > descriptor.size) await rm(partialPath, { force: true });
  const wanted = held > descriptor.size ? 0 : held;
  const { body, offset } = await source.blob(descriptor, wanted, signal);
  const hash = createHash("sha256");
  if (offset > 0) await hashFile(partialPath, hash, signal);
  let total = offset;
  const checked = async function* (chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      total += chunk.length;
      if (total > descriptor.size) throw mismatch(descriptor);
      hash.update(chunk);
      options.onBytes(chunk.length);
      yield chunk;
    }
  };
  try {
    await pipeline(body, checked, createWriteStream(partialPath, { flags: offset > 0 ? "a" : "w" }), {
      signal,
    });
    if (total < descriptor.size)
      throw new HearthError("registry_unavailable", { details: { digest: descriptor.digest } });
    if (`sha256:${hash.digest("hex")}` !== descriptor.digest) throw mismatch(descriptor);
  } catch (error) {
    const fault = diskFault(error);
    if (fault.code === "disk_full" || fault.code === "image_digest_mismatch")
      await rm(partialPath, { force: true });
    throw fault;
  }
  await syncFile(partialPath);
  await rename(partialPath, options.finalPath);
}

export interface InflateOptions {
  readonly blobPath: string;
  readonly outputPath: string;
  readonly diffId: string;
  /** Decompressed bytes that the image may still use; above it, the layer counts as a bomb. */
  readonly maxBytes: number;
  readonly signal: AbortSignal;
}

/**
 * Decompresses a layer by what its first bytes say, as Docker does, and checks the diff id.
 * @returns size of the tar in bytes
 * @throws HearthError `image_too_large`, `image_digest_mismatch`, `image_format_unsupported`, `disk_full`
 */
export async function inflateLayer(options: InflateOptions): Promise<number> {
  const { signal } = options;
  const hash = createHash("sha256");
  let total = 0;
  const counted = async function* (chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      total += chunk.length;
      if (total > options.maxBytes)
        throw new HearthError("image_too_large", { details: { limitBytes: options.maxBytes } });
      hash.update(chunk);
      yield chunk;
    }
  };
  const input = createReadStream(options.blobPath);
  const output = createWriteStream(options.outputPath);
  try {
    const decompress = await decompressorFor(options.blobPath);
    if (decompress === undefined) await pipeline(input, counted, output, { signal });
    else await pipeline(input, decompress, counted, output, { signal });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (/^(Z_|ZSTD_)/.test(String(code))) throw unsupported("a layer is not well compressed", error);
    throw diskFault(error);
  }
  const found = `sha256:${hash.digest("hex")}`;
  if (found !== options.diffId)
    throw new HearthError("image_digest_mismatch", { details: { expected: options.diffId, found } });
  return total;
}

async function decompressorFor(path: string) {
  const file = await open(path);
  try {
    const { buffer } = await file.read(Buffer.alloc(4), 0, 4, 0);
    if (buffer[0] === 0x1f && buffer[1] === 0x8b) return createGunzip();
    if (buffer.readUInt32LE(0) === 0xfd2fb528) return createZstdDecompress();
    return undefined;
  } finally {
    await file.close();
  }
}

/** A full disk has its own code; all else that is not named is `internal`. Aborts keep their reason. */
export function diskFault(error: unknown): HearthError {
  const { code, name } = error as NodeJS.ErrnoException;
  if (code === "ENOSPC" || code === "EDQUOT") return new HearthError("disk_full", { cause: error });
  if (name === "AbortError") return new HearthError("cancelled", { cause: error });
  return HearthError.from(error);
}

const mismatch = (descriptor: Descriptor): HearthError =>
  new HearthError("image_digest_mismatch", { details: { expected: descriptor.digest } });

async function hashFile(path: string, hash: Hash, signal: AbortSignal): Promise<void> {
  for await (const chunk of createReadStream(path, { signal })) hash.update(chunk as Buffer);
}

async function sizeOrZero(path: string): Promise<number> {
  return await stat(path).then(
    (found) => found.size,
    () => 0,
  );
}

export async function syncFile(path: string): Promise<void> {
  const file = await open(path, "r");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
