/**
 * Images in an archive of `docker save` (or `skopeo copy docker-archive:`).
 *
 * Nothing is unpacked: the headers are read once, and blobs are ranges of the archive. `manifest.json`
 * names a config and layers by path only, so the digests are computed here and the manifest is made up from
 * them; what vouches for the contents are the config's diff ids, which the build checks.
 */
import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { posix } from "node:path";
import { HearthError } from "@hearth/errors";
import type { BlobStream, ImageSource } from "./image-source.ts";
import { type Descriptor, maxManifestBytes, parseJson, unsupported } from "./manifest.ts";
import { readTar } from "./tar-reader.ts";

interface Range {
  readonly offset: number;
  readonly size: number;
}

interface SavedImage {
  readonly Config: string;
  readonly Layers: readonly string[];
  readonly RepoTags?: readonly string[] | null;
}

const maxEntries = 10_000;
const chunkBytes = 1024 * 1024;

export class DockerArchiveSource implements ImageSource {
  readonly #path: string;
  readonly #repoTag: string | undefined;
  readonly #blobs = new Map<string, Range>();
  #file: FileHandle | undefined;

  /** `repoTag` picks among several images; an archive with one image needs none. */
  constructor(path: string, repoTag?: string) {
    this.#path = path;
    this.#repoTag = repoTag;
  }

  /** @throws HearthError `image_not_found`, `image_format_unsupported`, `image_layer_hostile` */
  async manifest(_digest: string | undefined, signal: AbortSignal): Promise<Buffer> {
    const file = await this.#open();
    const members = await readMembers(file, signal);
    const listed = parseJson(await readSmall(file, find(members, "manifest.json")));
    const image = choose(Array.isArray(listed) ? listed.map(savedImage) : [], this.#repoTag);
    const config = await this.#descriptor(file, find(members, image.Config), signal);
    const layers: Descriptor[] = [];
    for (const name of image.Layers) layers.push(await this.#descriptor(file, find(members, name), signal));
    return Buffer.from(JSON.stringify({ schemaVersion: 2, config, layers }));
  }

  async blob(descriptor: Descriptor, offset: number, signal: AbortSignal): Promise<BlobStream> {
    const range = this.#blobs.get(descriptor.digest);
    if (range === undefined)
      throw new HearthError("image_not_found", { details: { digest: descriptor.digest } });
    const rest = { offset: range.offset + offset, size: range.size - offset };
    return { body: readRange(await this.#open(), rest, signal), offset };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }

  async #open(): Promise<FileHandle> {
    try {
      this.#file ??= await open(this.#path);
      return this.#file;
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === "ENOENT")
        throw new HearthError("image_not_found", { cause });
      throw cause;
    }
  }

  async #descriptor(file: FileHandle, range: Range, signal: AbortSignal): Promise<Descriptor> {
    const hash = createHash("sha256");
    for await (const chunk of readRange(file, range, signal)) hash.update(chunk);
    const digest = `sha256:${hash.digest("hex")}`;
    this.#blobs.set(digest, range);
    return { mediaType: "", digest, size: range.size };
  }
}

/** Files by path; a layer that occurs twice is a link in older archives. */
async function readMembers(file: FileHandle, signal: AbortSignal): Promise<Map<string, Range>> {
  const members = new Map<string, Range>();
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

function find(members: ReadonlyMap<string, Range>, name: string): Range {
  const range = members.get(posix.normalize(name));
  if (range === undefined) throw unsupported(`the archive has no ${name.slice(0, 128)}`);
  return range;
}

async function readSmall(file: FileHandle, range: Range): Promise<Buffer> {
  if (range.size > maxManifestBytes) throw unsupported("manifest.json is too large");
  const { buffer } = await file.read(Buffer.alloc(range.size), 0, range.size, range.offset);
  return buffer;
}

async function* readRange(file: FileHandle, range: Range, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for (let done = 0; done < range.size; ) {
    signal.throwIfAborted();
    const wanted = Math.min(chunkBytes, range.size - done);
    const { bytesRead, buffer } = await file.read(Buffer.alloc(wanted), 0, wanted, range.offset + done);
    if (bytesRead === 0) throw unsupported("the archive ends too early");
    yield buffer.subarray(0, bytesRead);
    done += bytesRead;
  }
}
