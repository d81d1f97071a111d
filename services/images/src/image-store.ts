/**
 * The images of one node: which references are here, who uses them, what may go.
 *
 * On disk: `rootfs/<imageId>.squashfs`, `references/<hash>.json`, `partial/` (downloads that may be
 * resumed) and `work/` (emptied at start). In the first two a name appears only by rename, after its
 * contents are complete, so a crash leaves nothing half. A rootfs is shared by all references with the same
 * chain of diff ids, and is never deleted while somebody holds it.
 */
import { createHash, randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HearthError } from "@hearth/errors";
import { BlobCache } from "./blob-cache.ts";
import { diskFault } from "./blob-file.ts";
import { type BuiltImage, ImageBuild, type ImageProgress } from "./image-build.ts";
import type { ImageSource } from "./image-source.ts";
import { defaultMergeLimits, type MergeLimits } from "./layer-merge.ts";
import { hostPlatform, type Platform } from "./manifest.ts";
import { openArchive } from "./open-archive.ts";
import { formatReference, type ImageReference, parseReference } from "./reference.ts";
import { RegistryClient, type RegistryOptions } from "./registry-client.ts";
import { SharedWork } from "./shared-work.ts";

/**
 * `imageId` is the key of the chain of diff ids: the same layers are the same id, whatever their name.
 * `digest` is that of the platform's manifest.
 */
export interface StoredImage extends BuiltImage {
  readonly reference: string;
}

export interface EnsureOptions {
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: ImageProgress) => void;
  /** Retains the image for this holder before anybody can remove it. */
  readonly holder?: string;
}

export interface ImageStoreOptions {
  readonly directory: string;
  readonly platform?: Platform;
  readonly limits?: MergeLimits;
  readonly parallelDownloads?: number;
  /** Unfinished downloads older than this are deleted at start. */
  readonly staleAfterMs?: number;
  readonly registryOptions?: (registry: string) => RegistryOptions;
}

export class ImageStore {
  readonly #options: ImageStoreOptions;
  readonly #blobs: BlobCache;
  readonly #pulls = new SharedWork<StoredImage>();
  readonly #merges = new SharedWork<void>();
  readonly #listeners = new Map<string, Set<(progress: ImageProgress) => void>>();
  readonly #holders = new Map<string, Set<string>>();
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: ImageStoreOptions) {
    this.#options = options;
    this.#blobs = new BlobCache(join(options.directory, "partial"), options.parallelDownloads ?? 4);
  }

  /** Makes the directories and throws away what a crash left behind. */
  async start(): Promise<void> {
    await rm(this.#path("work"), { recursive: true, force: true });
    for (const name of ["rootfs", "references", "work"]) await mkdir(this.#path(name), { recursive: true });
    await this.#blobs.start(this.#options.staleAfterMs ?? 24 * 3_600_000, Date.now());
  }

  /**
   * The image, from this node or from its registry. A tag that is here is not asked for again.
   * @throws HearthError of the image family, `registry_unavailable`, `disk_full`
   */
  async ensure(reference: string, options: EnsureOptions): Promise<StoredImage> {
    const parsed = parseReference(reference);
    const name = formatReference(parsed);
    using _listening = this.#listen(name, options.onProgress);
    while (true) {
      const stored = await this.#exclusively(() => this.#claim(name, options.holder));
      if (stored !== undefined) return stored;
      await this.#pulls.run(name, options.signal, async (signal) => {
        const registry = this.#options.registryOptions?.(parsed.registry) ?? {};
        await using source = new RegistryClient(parsed, registry);
        return await this.#store(parsed, source, signal);
      });
    }
  }

  /**
   * Takes the image of an OCI layout (a directory or a tar archive) or of a `docker save` archive at `path`
   * and stores it as `reference`, replacing what had the name.
   */
  async import(path: string, reference: string, options: EnsureOptions): Promise<StoredImage> {
    const parsed = parseReference(reference);
    using _listening = this.#listen(formatReference(parsed), options.onProgress);
    await using source = await openArchive(path, options.signal);
    return await this.#store(parsed, source, options.signal, options.holder);
  }

  /** All references of this node, in the order of their names. */
  async list(): Promise<StoredImage[]> {
    const images: StoredImage[] = [];
    for (const file of await readdir(this.#path("references"))) {
      if (file.endsWith(".json")) {
        const image = await readRecord(this.#path("references", file));
        images.push({ ...image, rootfsPath: this.#rootfsPath(image.imageId) });
      }
    }
    return images.sort((a, b) => (a.reference < b.reference ? -1 : 1));
  }

  /** @throws HearthError `image_not_found`, `image_in_use` */
  async remove(reference: string): Promise<void> {
    const name = formatReference(parseReference(reference));
    await this.#exclusively(async () => {
      const images = await this.list();
      const image = images.find((candidate) => candidate.reference === name);
      if (image === undefined) throw new HearthError("image_not_found", { details: { reference: name } });
      const shared = images.some((other) => other.imageId === image.imageId && other.reference !== name);
      if (!shared && this.#holders.has(image.imageId)) throw new HearthError("image_in_use");
      // The name goes first: a crash in between leaves a rootfs without a name, which `collect` finds.
      await rm(this.#referencePath(name), { force: true });
      if (!shared) await rm(this.#rootfsPath(image.imageId), { force: true });
    });
  }

  /** Deletes each rootfs that no reference names and nobody holds; returns their ids. */
  async collect(): Promise<string[]> {
    return await this.#exclusively(async () => {
      const named = new Set((await this.list()).map((image) => image.imageId));
      const collected: string[] = [];
      for (const file of await readdir(this.#path("rootfs"))) {
        const imageId = file.replace(/\.squashfs$/, "");
        if (named.has(imageId) || this.#holders.has(imageId)) continue;
        await rm(this.#path("rootfs", file), { force: true });
        collected.push(imageId);
      }
      return collected;
    });
  }

  /** Keeps the rootfs of `imageId` from removal until the same holder releases it. Idempotent. */
  retain(imageId: string, holder: string): void {
    const holders = this.#holders.get(imageId) ?? new Set();
    this.#holders.set(imageId, holders.add(holder));
  }

  release(imageId: string, holder: string): void {
    const holders = this.#holders.get(imageId);
    holders?.delete(holder);
    if (holders?.size === 0) this.#holders.delete(imageId);
  }

  /** Ends every hold of `holder`, whatever images it holds. */
  releaseAll(holder: string): void {
    for (const imageId of [...this.#holders.keys()]) this.release(imageId, holder);
  }

  async #store(
    reference: ImageReference,
    source: ImageSource,
    signal: AbortSignal,
    holder?: string,
  ): Promise<StoredImage> {
    const name = formatReference(reference);
    const builder = `build-${randomUUID()}`;
    let retained: string | undefined;
    const retain = (imageId: string): Promise<void> =>
      this.#exclusively(async () => {
        retained = imageId;
        this.retain(imageId, builder);
      });
    const build = new ImageBuild(
      {
        blobs: this.#blobs,
        platform: this.#options.platform ?? hostPlatform(),
        limits: this.#options.limits ?? defaultMergeLimits,
        rootfsDirectory: this.#path("rootfs"),
        workDirectory: this.#path("work"),
        retain,
      },
      this.#merges,
    );
    const onProgress = (progress: ImageProgress): void => {
      for (const listener of this.#listeners.get(name) ?? []) listener(progress);
    };
    try {
      const built = await build.run({ source, pinned: reference.digest, signal, onProgress });
      const image: StoredImage = { reference: name, ...built };
      await this.#writeRecord(image);
      if (holder !== undefined) this.retain(image.imageId, holder);
      return image;
    } finally {
      if (retained !== undefined) this.release(retained, builder);
    }
  }

  async #writeRecord(image: StoredImage): Promise<void> {
    const temporary = this.#path("work", randomUUID());
    try {
      await writeFile(temporary, JSON.stringify(image), { flush: true });
      await rename(temporary, this.#referencePath(image.reference));
    } catch (error) {
      await rm(temporary, { force: true });
      throw diskFault(error);
    }
  }

  /** The stored image, retained for `holder`; undefined when it, or its rootfs, is not here. */
  async #claim(name: string, holder: string | undefined): Promise<StoredImage | undefined> {
    const image = await readRecord(this.#referencePath(name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined;
      throw error;
    });
    if (image === undefined) return undefined;
    const rootfs = await stat(this.#rootfsPath(image.imageId)).catch(() => undefined);
    if (rootfs === undefined) return undefined;
    if (holder !== undefined) this.retain(image.imageId, holder);
    // The directory may have moved since the record was written.
    return { ...image, rootfsPath: this.#rootfsPath(image.imageId) };
  }

  #listen(name: string, listener: ((progress: ImageProgress) => void) | undefined): Disposable {
    if (listener === undefined) return { [Symbol.dispose]: () => undefined };
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    const stop = (): void => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#listeners.get(name) === listeners) this.#listeners.delete(name);
    };
    return { [Symbol.dispose]: stop };
  }

  /** Short critical sections, one after the other: claiming an image and removing it must not interleave. */
  async #exclusively<T>(section: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(section);
    this.#turn = mine.catch(() => undefined);
    return await mine;
  }

  #path = (...parts: string[]): string => join(this.#options.directory, ...parts);
  #rootfsPath = (imageId: string): string => this.#path("rootfs", `${imageId}.squashfs`);
  #referencePath = (name: string): string =>
    this.#path("references", `${createHash("sha256").update(name).digest("hex")}.json`);
}

const readRecord = async (path: string): Promise<StoredImage> =>
  JSON.parse(await readFile(path, "utf8")) as StoredImage;
