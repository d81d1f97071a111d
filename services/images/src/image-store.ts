/**
 * The images of one node: references resolved, layers fetched and merged, results kept by content.
 *
 * On disk: `rootfs/<imageId>.squashfs`, `references/<hash>.json`, `partial/<digest>` (downloads that may be
 * resumed) and `work/` (emptied at start). A name outside `partial` and `work` appears only by rename, after
 * its contents are complete, so a crash leaves nothing half. A rootfs is shared by all references with the
 * same chain of diff ids.
 */
import { createHash, randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HearthError } from "@hearth/errors";
import { diskFault, fetchBlob, inflateLayer, syncFile } from "./blob-file.ts";
import type { ImageSource } from "./image-source.ts";
import { defaultMergeLimits, type MergeLimits, mergeLayers } from "./layer-merge.ts";
import * as manifests from "./manifest.ts";
import { OciLayoutSource } from "./oci-layout.ts";
import { formatReference, type ImageReference, parseReference } from "./reference.ts";
import { RegistryClient, type RegistryOptions } from "./registry-client.ts";
import { SharedWork } from "./shared-work.ts";

export interface StoredImage {
  readonly reference: string;
  /** Key of the chain of diff ids: the same layers are the same id, whatever their name. */
  readonly imageId: string;
  /** Digest of the platform's manifest. */
  readonly digest: string;
  readonly rootfsPath: string;
  readonly sizeBytes: number;
  readonly config: manifests.ImageConfig;
}

export type ImageProgress =
  | { readonly phase: "downloading"; readonly doneBytes: number; readonly totalBytes: number }
  | { readonly phase: "merging" };

export interface EnsureOptions {
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: ImageProgress) => void;
}

export interface ImageStoreOptions {
  readonly directory: string;
  readonly platform?: manifests.Platform;
  readonly limits?: MergeLimits;
  readonly parallelDownloads?: number;
  readonly registryOptions?: (registry: string) => RegistryOptions;
}

export class ImageStore {
  readonly #options: ImageStoreOptions;
  readonly #images = new SharedWork<StoredImage>();
  readonly #blobs = new SharedWork<void>();
  readonly #merges = new SharedWork<void>();
  readonly #holders = new Map<string, Set<string>>();

  constructor(options: ImageStoreOptions) {
    this.#options = options;
  }

  /** Makes the directories and throws away what a crash left behind. */
  async start(): Promise<void> {
    await rm(this.#path("work"), { recursive: true, force: true });
    for (const name of ["rootfs", "references", "partial", "work"])
      await mkdir(this.#path(name), { recursive: true });
  }

  /**
   * The image, from this node or from its registry. A tag that is here is not asked for again.
   * @throws HearthError of the image family, `registry_unavailable`, `disk_full`
   */
  async ensure(reference: string, options: EnsureOptions): Promise<StoredImage> {
    const parsed = parseReference(reference);
    const name = formatReference(parsed);
    return await this.#images.run(name, options.signal, async (signal) => {
      const stored = await this.#read(name);
      if (stored !== undefined) return stored;
      const registry = this.#options.registryOptions?.(parsed.registry) ?? {};
      await using source = new RegistryClient(parsed, registry);
      return await this.#build(parsed, source, { ...options, signal });
    });
  }

  /** Takes the image from an OCI layout at `path` and stores it as `reference`, replacing what had the name. */
  async import(path: string, reference: string, options: EnsureOptions): Promise<StoredImage> {
    const parsed = parseReference(reference);
    await using source = new OciLayoutSource(path);
    return await this.#build(parsed, source, options);
  }

  async list(): Promise<StoredImage[]> {
    const images: StoredImage[] = [];
    for (const file of (await readdir(this.#path("references"))).sort()) {
      if (!file.endsWith(".json")) continue;
      images.push(JSON.parse(await readFile(this.#path("references", file), "utf8")) as StoredImage);
    }
    return images;
  }

  /** @throws HearthError `image_not_found`, `image_in_use` */
  async remove(reference: string): Promise<void> {
    const name = formatReference(parseReference(reference));
    const stored = await this.#read(name);
    if (stored === undefined) throw new HearthError("image_not_found");
    const others = (await this.list()).filter(
      (image) => image.imageId === stored.imageId && image.reference !== name,
    );
    if (others.length === 0 && this.#holders.has(stored.imageId)) throw new HearthError("image_in_use");
    // The name goes first: a crash in between leaves a rootfs without a name, which the next pull reuses.
    await rm(this.#referencePath(name), { force: true });
    if (others.length === 0) await rm(stored.rootfsPath, { force: true });
  }

  /** Keeps the rootfs of `imageId` from removal until the same holder releases it. */
  retain(imageId: string, holder: string): void {
    const holders = this.#holders.get(imageId) ?? new Set();
    this.#holders.set(imageId, holders.add(holder));
  }

  release(imageId: string, holder: string): void {
    const holders = this.#holders.get(imageId);
    holders?.delete(holder);
    if (holders?.size === 0) this.#holders.delete(imageId);
  }

  async #build(reference: ImageReference, source: ImageSource, options: EnsureOptions): Promise<StoredImage> {
    const workPath = this.#path("work", randomUUID());
    await mkdir(workPath);
    try {
      return await this.#buildIn(workPath, reference, source, options);
    } catch (error) {
      throw options.signal.aborted ? error : diskFault(error);
    } finally {
      await rm(workPath, { recursive: true, force: true });
    }
  }

  async #buildIn(workPath: string, reference: ImageReference, source: ImageSource, options: EnsureOptions) {
    const platform = this.#options.platform ?? manifests.hostPlatform();
    const { manifest, digest } = await this.#resolve(reference.digest, source, platform, options.signal);
    const parts = [manifest.config, ...manifest.layers];
    const totalBytes = parts.reduce((sum, part) => sum + part.size, 0);
    const { maxBytes } = this.#limits();
    if (totalBytes > maxBytes)
      throw new HearthError("image_too_large", { details: { limitBytes: maxBytes } });
    if (manifest.config.size > manifests.maxManifestBytes)
      throw manifests.unsupported("the config is too large");
    let doneBytes = 0;
    const onBytes = (count: number): void => {
      doneBytes += count;
      options.onProgress?.({ phase: "downloading", doneBytes, totalBytes });
    };
    const configPath = await this.#fetch(manifest.config, source, onBytes, options.signal);
    const { config, diffIds } = manifests.readConfig(await readFile(configPath), platform);
    if (diffIds.length !== manifest.layers.length)
      throw manifests.unsupported("layers and diff ids differ in number");
    const imageId = chainId(diffIds);
    const rootfsPath = this.#path("rootfs", `${imageId}.squashfs`);
    await this.#merges.run(imageId, options.signal, async (signal) => {
      if (await exists(rootfsPath)) return;
      const blobs = await this.#fetchAll(manifest.layers, source, onBytes, signal);
      options.onProgress?.({ phase: "merging" });
      const layerPaths = await this.#inflate(blobs, diffIds, workPath, signal);
      const outputPath = join(workPath, "rootfs");
      await mergeLayers({ layerPaths, outputPath, signal, limits: this.#limits() });
      await syncFile(outputPath);
      await rename(outputPath, rootfsPath);
    });
    const { size: sizeBytes } = await stat(rootfsPath);
    const image: StoredImage = {
      reference: formatReference(reference),
      imageId,
      digest,
      rootfsPath,
      sizeBytes,
      config,
    };
    await writeFile(join(workPath, "reference"), JSON.stringify(image), { flush: true });
    await rename(join(workPath, "reference"), this.#referencePath(image.reference));
    // Only now: until the image has its name, a second try profits from what was downloaded.
    for (const part of parts) await rm(this.#blobPath(part), { force: true });
    return image;
  }

  async #resolve(
    pinned: string | undefined,
    source: ImageSource,
    platform: manifests.Platform,
    signal: AbortSignal,
  ) {
    let wanted = pinned;
    // An index may name an index; more than that is nobody's honest image.
    for (let depth = 0; depth < 3; depth++) {
      const bytes = await source.manifest(wanted, signal);
      const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
      if (wanted !== undefined && digest !== wanted) throw new HearthError("image_digest_mismatch");
      const read = manifests.readManifest(bytes, platform);
      if (manifests.isImageManifest(read)) return { manifest: read, digest };
      wanted = read.digest;
    }
    throw manifests.unsupported("indexes are nested too deeply");
  }

  async #fetchAll(
    layers: readonly manifests.Descriptor[],
    source: ImageSource,
    onBytes: (count: number) => void,
    signal: AbortSignal,
  ) {
    const paths: string[] = new Array(layers.length);
    const stop = new AbortController();
    const both = AbortSignal.any([signal, stop.signal]);
    const queue = layers.entries();
    const lane = async (): Promise<void> => {
      for (const [index, layer] of queue) paths[index] = await this.#fetch(layer, source, onBytes, both);
    };
    const lanes = Array.from({ length: this.#options.parallelDownloads ?? 4 }, () =>
      lane().catch((error: unknown) => {
        stop.abort(error);
        throw error;
      }),
    );
    // All lanes end before the first failure is told, so that nothing writes behind the caller's back.
    await Promise.allSettled(lanes);
    await Promise.all(lanes);
    return paths;
  }

  async #fetch(
    part: manifests.Descriptor,
    source: ImageSource,
    onBytes: (count: number) => void,
    signal: AbortSignal,
  ) {
    const finalPath = this.#blobPath(part);
    await this.#blobs.run(part.digest, signal, async (shared) => {
      if (await exists(finalPath)) return;
      const partialPath = `${finalPath}.part`;
      await fetchBlob({ source, descriptor: part, partialPath, finalPath, signal: shared, onBytes });
    });
    return finalPath;
  }

  async #inflate(
    blobs: readonly string[],
    diffIds: readonly string[],
    workPath: string,
    signal: AbortSignal,
  ) {
    const paths: string[] = [];
    let { maxBytes } = this.#limits();
    for (const [index, blobPath] of blobs.entries()) {
      const outputPath = join(workPath, `layer-${index}.tar`);
      maxBytes -= await inflateLayer({
        blobPath,
        outputPath,
        diffId: diffIds[index] ?? "",
        maxBytes,
        signal,
      });
      paths.push(outputPath);
    }
    return paths;
  }

  async #read(name: string): Promise<StoredImage | undefined> {
    const bytes = await readFile(this.#referencePath(name), "utf8").catch(() => undefined);
    const stored = bytes === undefined ? undefined : (JSON.parse(bytes) as StoredImage);
    return stored !== undefined && (await exists(stored.rootfsPath)) ? stored : undefined;
  }

  #limits = (): MergeLimits => this.#options.limits ?? defaultMergeLimits;
  #path = (...parts: string[]): string => join(this.#options.directory, ...parts);
  #blobPath = (part: manifests.Descriptor): string => this.#path("partial", part.digest.replace(":", "-"));
  #referencePath = (name: string): string =>
    this.#path("references", `${createHash("sha256").update(name).digest("hex")}.json`);
}

/** OCI image spec, "Layer ChainID". */
function chainId(diffIds: readonly string[]): string {
  const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
  const [first, ...rest] = diffIds;
  if (first === undefined) return sha256("");
  return rest
    .reduce((chain, diffId) => `sha256:${sha256(`${chain} ${diffId}`)}`, first)
    .slice("sha256:".length);
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );
