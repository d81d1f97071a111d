/**
 * Images in an archive of `docker save` (or `skopeo copy docker-archive:`).
 *
 * `manifest.json` names a config and layers by path only, so the digests are computed here and the manifest
 * is made up from them; what vouches for the contents are the config's diff ids, which the build checks.
 */
import { createHash } from "node:crypto";
import { HearthError } from "@hearth/errors";
import type { ArchiveFile, ArchiveRange } from "./archive-file.ts";
import type { BlobStream, ImageSource } from "./image-source.ts";
import { type Descriptor, parseJson, unsupported } from "./manifest.ts";

interface SavedImage {
  readonly Config: string;
  readonly Layers: readonly string[];
  readonly RepoTags?: readonly string[] | null;
}

export class DockerArchiveSource implements ImageSource {
  readonly #archive: ArchiveFile;
  readonly #repoTag: string | undefined;
  readonly #blobs = new Map<string, ArchiveRange>();

  /** Owns `archive`. `repoTag` picks among several images; an archive with one image needs none. */
  constructor(archive: ArchiveFile, repoTag?: string) {
    this.#archive = archive;
    this.#repoTag = repoTag;
  }

  /** @throws HearthError `image_not_found`, `image_format_unsupported`, `image_layer_hostile` */
  async manifest(_digest: string | undefined, signal: AbortSignal): Promise<Buffer> {
    const listed = parseJson(await this.#archive.readSmall(this.#archive.find("manifest.json")));
    const image = choose(Array.isArray(listed) ? listed.map(savedImage) : [], this.#repoTag);
    const config = await this.#descriptor(image.Config, signal);
    const layers: Descriptor[] = [];
    for (const name of image.Layers) layers.push(await this.#descriptor(name, signal));
    return Buffer.from(JSON.stringify({ schemaVersion: 2, config, layers }));
  }

  async blob(descriptor: Descriptor, offset: number, signal: AbortSignal): Promise<BlobStream> {
    const range = this.#blobs.get(descriptor.digest);
    if (range === undefined)
      throw new HearthError("image_not_found", { details: { digest: descriptor.digest } });
    const rest = { offset: range.offset + offset, size: range.size - offset };
    return { body: this.#archive.read(rest, signal), offset };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#archive[Symbol.asyncDispose]();
  }

  async #descriptor(name: string, signal: AbortSignal): Promise<Descriptor> {
    const range = this.#archive.find(name);
    const hash = createHash("sha256");
    for await (const chunk of this.#archive.read(range, signal)) hash.update(chunk);
    const digest = `sha256:${hash.digest("hex")}`;
    this.#blobs.set(digest, range);
    return { mediaType: "", digest, size: range.size };
  }
}

function choose(images: readonly SavedImage[], repoTag: string | undefined): SavedImage {
  const named = images.find((image) => repoTag !== undefined && image.RepoTags?.includes(repoTag));
  const chosen = images.length === 1 ? images[0] : named;
  if (chosen === undefined)
    throw new HearthError("image_not_found", { details: { repoTag, images: images.length } });
  return chosen;
}

function savedImage(value: unknown): SavedImage {
  const { Config, Layers, RepoTags } = (value ?? {}) as Record<string, unknown>;
  const layers =
    Array.isArray(Layers) && Layers.every((name) => typeof name === "string") ? Layers : undefined;
  if (typeof Config !== "string" || layers === undefined)
    throw unsupported("manifest.json has another shape");
  const tags = Array.isArray(RepoTags) ? RepoTags.filter((tag) => typeof tag === "string") : [];
  return { Config, Layers: layers, RepoTags: tags };
}
