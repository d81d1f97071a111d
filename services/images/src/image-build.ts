/**
 * From a source to a rootfs: resolve the manifest, fetch the blobs, inflate, merge, name by content.
 *
 * The rootfs appears under its final name by rename and only when complete. Two builds of one chain of
 * diff ids share one merge, whatever references asked for them.
 */
import { createHash, randomUUID } from "node:crypto";
import { mkdir, readFile, rename, rm, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { HearthError } from "@hearth/errors";
import type { BlobCache } from "./blob-cache.ts";
import { diskFault, inflateLayer, syncFile } from "./blob-file.ts";
import type { ImageSource } from "./image-source.ts";
import { type MergeLimits, mergeLayers } from "./layer-merge.ts";
import * as manifests from "./manifest.ts";
import type { SharedWork } from "./shared-work.ts";

export type ImageProgress =
  | { readonly phase: "downloading"; readonly doneBytes: number; readonly totalBytes: number }
  | { readonly phase: "merging" };

export interface BuiltImage {
  readonly imageId: string;
  readonly digest: string;
  readonly rootfsPath: string;
  readonly sizeBytes: number;
  readonly config: manifests.ImageConfig;
}

export interface ImageBuildDeps {
  readonly blobs: BlobCache;
  readonly platform: manifests.Platform;
  readonly limits: MergeLimits;
  readonly rootfsDirectory: string;
  readonly workDirectory: string;
  /** Called before the rootfs is looked for, so that it cannot be removed between that and its use. */
  readonly retain: (imageId: string) => Promise<void>;
}

export interface BuildOptions {
  readonly source: ImageSource;
  /** Digest that the reference is pinned to. */
  readonly pinned: string | undefined;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: ImageProgress) => void;
}

export class ImageBuild {
  readonly #merges: SharedWork<void>;
  readonly #deps: ImageBuildDeps;

  constructor(deps: ImageBuildDeps, merges: SharedWork<void>) {
    this.#deps = deps;
    this.#merges = merges;
  }

  /** @throws HearthError of the image family, `registry_unavailable`, `disk_full` */
  async run(options: BuildOptions): Promise<BuiltImage> {
    const { blobs } = this.#deps;
    const { manifest, digest } = await this.#resolve(options);
    const parts = [manifest.config, ...manifest.layers];
    blobs.hold(parts);
    let drop = false;
    try {
      const built = await this.#build(manifest, options);
      drop = true;
      return { ...built, digest };
    } catch (error) {
      options.signal.throwIfAborted();
      const fault = diskFault(error);
      // Partial files are worth keeping for a second try, but not when they are what fills the disk, and
      // not when the contents themselves are refused.
      drop = fault.code !== "registry_unavailable";
      throw fault;
    } finally {
      await blobs.release(parts, drop);
    }
  }

  async #build(
    manifest: manifests.ImageManifest,
    options: BuildOptions,
  ): Promise<Omit<BuiltImage, "digest">> {
    const { blobs, platform, limits, rootfsDirectory } = this.#deps;
    const { source, signal, onProgress } = options;
    const totalBytes = [manifest.config, ...manifest.layers].reduce((sum, part) => sum + part.size, 0);
    if (totalBytes > limits.maxBytes) throw tooLarge(limits);
    if (manifest.config.size > manifests.maxManifestBytes)
      throw manifests.unsupported("the config is too large");
    let doneBytes = 0;
    const count = (bytes: number): void => {
      doneBytes += bytes;
    };
    // Progress begins when the image is known to be one for this node: whoever waits for that waits for progress.
    const [configPath = ""] = await blobs.fetchAll([manifest.config], { source, onBytes: count, signal });
    const { config, diffIds } = manifests.readConfig(await readFile(configPath), platform);
    if (diffIds.length !== manifest.layers.length)
      throw manifests.unsupported("layers and diff ids differ in number");
    const imageId = chainId(diffIds);
    await this.#deps.retain(imageId);
    const rootfsPath = join(rootfsDirectory, `${imageId}.squashfs`);
    await this.#merges.run(imageId, signal, async (shared) => {
      if ((await stat(rootfsPath).catch(() => undefined)) !== undefined) return;
      await this.#requireSpace(manifest.layers);
      const onBytes = (bytes: number): void => {
        count(bytes);
        onProgress({ phase: "downloading", doneBytes, totalBytes });
      };
      onBytes(0);
      const paths = await blobs.fetchAll(manifest.layers, { source, onBytes, signal: shared });
      onProgress({ phase: "merging" });
      await this.#merge(paths, { diffIds, rootfsPath, signal: shared });
    });
    const { size: sizeBytes } = await stat(rootfsPath);
    return { imageId, rootfsPath, sizeBytes, config };
  }

  /** What certainly does not fit is not begun: filling the disk would harm the machines of this node. */
  async #requireSpace(layers: readonly manifests.Descriptor[]): Promise<void> {
    const missing = await this.#deps.blobs.missingBytes(layers);
    const { bavail, bsize } = await statfs(this.#deps.workDirectory);
    if (missing <= bavail * bsize) return;
    throw new HearthError("disk_full", { details: { neededBytes: missing, freeBytes: bavail * bsize } });
  }

  async #merge(
    blobPaths: readonly string[],
    to: { diffIds: readonly string[]; rootfsPath: string; signal: AbortSignal },
  ): Promise<void> {
    const { limits, workDirectory } = this.#deps;
    const workPath = join(workDirectory, randomUUID());
    await mkdir(workPath);
    try {
      const layerPaths: string[] = [];
      let maxBytes = limits.maxBytes;
      for (const [index, blobPath] of blobPaths.entries()) {
        const outputPath = join(workPath, `layer-${index}.tar`);
        const diffId = to.diffIds[index] ?? "";
        maxBytes -= await inflateLayer({ blobPath, outputPath, diffId, maxBytes, signal: to.signal });
        layerPaths.push(outputPath);
      }
      const outputPath = join(workPath, "rootfs");
      await mergeLayers({ layerPaths, outputPath, signal: to.signal, limits });
      await syncFile(outputPath);
      await rename(outputPath, to.rootfsPath);
    } finally {
      await rm(workPath, { recursive: true, force: true });
    }
  }

  async #resolve({ pinned, source, signal }: BuildOptions) {
    let wanted = pinned;
    // An index may name an index; more than that is nobody's honest image.
    for (let depth = 0; depth < 3; depth++) {
      const bytes = await source.manifest(wanted, signal);
      const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
      if (wanted !== undefined && digest !== wanted) {
        throw new HearthError("image_digest_mismatch", { details: { expected: wanted, found: digest } });
      }
      const read = manifests.readManifest(bytes, this.#deps.platform);
      if (manifests.isImageManifest(read)) return { manifest: read, digest };
      wanted = read.digest;
    }
    throw manifests.unsupported("indexes are nested too deeply");
  }
}

/** OCI image spec, "Layer ChainID". */
export function chainId(diffIds: readonly string[]): string {
  const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
  const [first, ...rest] = diffIds;
  if (first === undefined) return sha256("");
  const chain = rest.reduce((below, diffId) => `sha256:${sha256(`${below} ${diffId}`)}`, first);
  return chain.slice("sha256:".length);
}

const tooLarge = (limits: MergeLimits): HearthError =>
  new HearthError("image_too_large", { details: { limitBytes: limits.maxBytes } });
