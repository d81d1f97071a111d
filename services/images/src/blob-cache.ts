/**
 * Blobs on their way into an image: one download a digest, whoever asks.
 *
 * A build holds the digests it needs. When the last build of a digest succeeds, the blob goes; when it
 * fails, the blob or its partial file stays, so that the next try resumes. What nobody came back for is
 * swept after `staleAfterMs`.
 */
import { randomUUID } from "node:crypto";
import { renameSync } from "node:fs";
import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { fetchBlob } from "./blob-file.ts";
import type { ImageSource } from "./image-source.ts";
import type { Descriptor } from "./manifest.ts";
import { SharedWork } from "./shared-work.ts";

export interface BlobFetch {
  readonly source: ImageSource;
  readonly onBytes: (count: number) => void;
  readonly signal: AbortSignal;
}

const doomedPrefix = "doomed-";

export class BlobCache {
  readonly #directory: string;
  readonly #parallel: number;
  readonly #downloads = new SharedWork<void>();
  readonly #holds = new Map<string, number>();

  constructor(directory: string, parallel: number) {
    this.#directory = directory;
    this.#parallel = parallel;
  }

  async start(staleAfterMs: number, nowMs: number): Promise<void> {
    await mkdir(this.#directory, { recursive: true });
    for (const name of await readdir(this.#directory)) {
      const path = join(this.#directory, name);
      const stale = (await stat(path)).mtimeMs + staleAfterMs < nowMs;
      if (stale || name.startsWith(doomedPrefix)) await rm(path, { force: true });
    }
  }

  hold(parts: readonly Descriptor[]): void {
    for (const digest of distinct(parts)) this.#holds.set(digest, (this.#holds.get(digest) ?? 0) + 1);
  }

  /** Ends a hold; with `drop`, what nobody else holds is deleted, complete or partial. */
  async release(parts: readonly Descriptor[], drop: boolean): Promise<void> {
    const doomed: string[] = [];
    for (const digest of distinct(parts)) {
      const left = (this.#holds.get(digest) ?? 1) - 1;
      if (left > 0) {
        this.#holds.set(digest, left);
        continue;
      }
      this.#holds.delete(digest);
      if (drop) doomed.push(...this.#doom(digest));
    }
    for (const path of doomed) await rm(path, { force: true });
  }

  /** Paths of the verified blobs, in the order of `parts`. The caller holds them. */
  async fetchAll(parts: readonly Descriptor[], fetch: BlobFetch): Promise<string[]> {
    const paths: string[] = new Array(parts.length);
    const stop = new AbortController();
    const signal = AbortSignal.any([fetch.signal, stop.signal]);
    const queue = parts.entries();
    const lane = async (): Promise<void> => {
      try {
        for (const [index, part] of queue) paths[index] = await this.#fetch(part, { ...fetch, signal });
      } catch (error) {
        stop.abort(error);
        throw error;
      }
    };
    const lanes = Array.from({ length: this.#parallel }, lane);
    // All lanes end before the first failure is told, so that nothing writes behind the caller's back.
    await Promise.allSettled(lanes);
    if (stop.signal.aborted) throw stop.signal.reason;
    return paths;
  }

  /** Bytes of `parts` that are still to be downloaded. */
  async missingBytes(parts: readonly Descriptor[]): Promise<number> {
    const sizes = await Promise.all(
      parts.map(async ({ digest, size }) => {
        const path = this.#path(digest);
        const found =
          (await stat(path).catch(() => undefined)) ?? (await stat(`${path}.part`).catch(() => undefined));
        return Math.max(0, size - (found?.size ?? 0));
      }),
    );
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  async #fetch(descriptor: Descriptor, { source, onBytes, signal }: BlobFetch): Promise<string> {
    const finalPath = this.#path(descriptor.digest);
    await this.#downloads.run(descriptor.digest, signal, async (shared) => {
      const found = await stat(finalPath).catch(() => undefined);
      if (found !== undefined) return;
      const partialPath = `${finalPath}.part`;
      await fetchBlob({ source, descriptor, partialPath, finalPath, signal: shared, onBytes });
    });
    return finalPath;
  }

  /** Takes the names away in one synchronous step: no build can begin to hold a blob that is half gone. */
  #doom(digest: string): string[] {
    const doomed: string[] = [];
    for (const path of [this.#path(digest), `${this.#path(digest)}.part`]) {
      const target = join(this.#directory, `${doomedPrefix}${randomUUID()}`);
      try {
        renameSync(path, target);
        doomed.push(target);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      }
    }
    return doomed;
  }

  #path(digest: string): string {
    return join(this.#directory, digest.replace(":", "-"));
  }
}

const distinct = (parts: readonly Descriptor[]): Set<string> => new Set(parts.map((part) => part.digest));
