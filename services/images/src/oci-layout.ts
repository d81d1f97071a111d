/**
 * Images in OCI layout (image spec, "Image Layout"): a directory, such as `skopeo copy oci:` writes, or a tar
 * archive of one, such as `skopeo copy oci-archive:` and `docker buildx build -o type=oci` write.
 */
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { HearthError } from "@hearth/errors";
import type { ArchiveFile } from "./archive-file.ts";
import type { BlobStream, ImageSource } from "./image-source.ts";
import { type Descriptor, maxManifestBytes, parseJson, unsupported } from "./manifest.ts";

const refName = "org.opencontainers.image.ref.name";

/** The files of a layout, by their path in it. Both throw `image_not_found` for one that is not there. */
export interface LayoutFiles extends AsyncDisposable {
  readSmall(path: string): Promise<Buffer>;
  read(path: string, offset: number, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>>;
}

interface LayoutIndex {
  readonly manifests?: readonly { readonly digest?: string; readonly annotations?: Record<string, string> }[];
}

export class OciLayoutSource implements ImageSource {
  readonly #files: LayoutFiles;
  readonly #name: string | undefined;

  /** Owns `files`. `name` picks among several images; a layout with one image needs none. */
  constructor(files: LayoutFiles, name?: string) {
    this.#files = files;
    this.#name = name;
  }

  /** @throws HearthError `image_not_found`, `image_format_unsupported` */
  async manifest(digest: string | undefined): Promise<Buffer> {
    if (digest !== undefined) return this.#files.readSmall(blobPath(digest));
    const bytes = await this.#files.readSmall("index.json");
    const manifests = (parseJson(bytes) as LayoutIndex | null)?.manifests ?? [];
    const named = manifests.filter((item) => item.annotations?.[refName] === this.#name);
    const chosen = manifests.length === 1 ? manifests[0] : named[0];
    // Several unnamed entries are the platforms of one image: the layout's index is then its index.
    if (chosen === undefined && this.#name === undefined) return bytes;
    if (chosen?.digest === undefined)
      throw new HearthError("image_not_found", { details: { name: this.#name } });
    return this.#files.readSmall(blobPath(chosen.digest));
  }

  async blob(descriptor: Descriptor, offset: number, signal: AbortSignal): Promise<BlobStream> {
    return { body: await this.#files.read(blobPath(descriptor.digest), offset, signal), offset };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#files[Symbol.asyncDispose]();
  }
}

export function layoutDirectory(directory: string): LayoutFiles {
  return {
    readSmall: async (path) => {
      const file = join(directory, path);
      if ((await sizeOf(file)) > maxManifestBytes) throw unsupported("a manifest is too large");
      return await readFile(file);
    },
    read: async (path, offset, signal) => {
      const file = join(directory, path);
      await sizeOf(file);
      return createReadStream(file, { start: offset, signal });
    },
    // Nothing stays open between calls.
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** Owns `archive`. */
export function layoutArchive(archive: ArchiveFile): LayoutFiles {
  const find = (path: string) => {
    if (!archive.has(path)) throw new HearthError("image_not_found", { details: { path } });
    return archive.find(path);
  };
  return {
    readSmall: async (path) => await archive.readSmall(find(path)),
    read: async (path, offset, signal) => {
      const range = find(path);
      return archive.read({ offset: range.offset + offset, size: range.size - offset }, signal);
    },
    [Symbol.asyncDispose]: () => archive[Symbol.asyncDispose](),
  };
}

function blobPath(digest: string): string {
  const [, hex] = /^sha256:([a-f0-9]{64})$/.exec(digest) ?? [];
  if (hex === undefined) throw unsupported("a digest is not sha256");
  return `blobs/sha256/${hex}`;
}

async function sizeOf(path: string): Promise<number> {
  try {
    const found = await stat(path);
    if (!found.isFile()) throw unsupported("a blob is not a file");
    return found.size;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT")
      throw new HearthError("image_not_found", { cause });
    throw cause;
  }
}
