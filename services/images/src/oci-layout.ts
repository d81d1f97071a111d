/** Images in a directory of OCI layout (image spec, "Image Layout"), such as `skopeo copy oci:` writes. */
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { HearthError } from "@hearth/errors";
import type { BlobStream, ImageSource } from "./image-source.ts";
import { type Descriptor, maxManifestBytes, parseJson, unsupported } from "./manifest.ts";

const refName = "org.opencontainers.image.ref.name";

interface LayoutIndex {
  readonly manifests?: readonly { readonly digest?: string; readonly annotations?: Record<string, string> }[];
}

export class OciLayoutSource implements ImageSource {
  readonly #directory: string;
  readonly #name: string | undefined;

  /** `name` picks among several images; a layout with one image needs none. */
  constructor(directory: string, name?: string) {
    this.#directory = directory;
    this.#name = name;
  }

  /** @throws HearthError `image_not_found`, `image_format_unsupported` */
  async manifest(digest: string | undefined): Promise<Buffer> {
    if (digest !== undefined) return readSmall(this.#blobPath(digest));
    const bytes = await readSmall(join(this.#directory, "index.json"));
    const manifests = (parseJson(bytes) as LayoutIndex | null)?.manifests ?? [];
    const named = manifests.filter((item) => item.annotations?.[refName] === this.#name);
    const chosen = manifests.length === 1 ? manifests[0] : named[0];
    // Several unnamed entries are the platforms of one image: the layout's index is then its index.
    if (chosen === undefined && this.#name === undefined) return bytes;
    if (chosen?.digest === undefined)
      throw new HearthError("image_not_found", { details: { name: this.#name } });
    return readSmall(this.#blobPath(chosen.digest));
  }

  async blob(descriptor: Descriptor, offset: number, signal: AbortSignal): Promise<BlobStream> {
    const path = this.#blobPath(descriptor.digest);
    await sizeOf(path);
    return { body: createReadStream(path, { start: offset, signal }), offset };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Nothing stays open between calls.
  }

  #blobPath(digest: string): string {
    const [, hex] = /^sha256:([a-f0-9]{64})$/.exec(digest) ?? [];
    if (hex === undefined) throw unsupported("a digest is not sha256");
    return join(this.#directory, "blobs", "sha256", hex);
  }
}

async function readSmall(path: string): Promise<Buffer> {
  if ((await sizeOf(path)) > maxManifestBytes) throw unsupported("a manifest is too large");
  return await readFile(path);
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
