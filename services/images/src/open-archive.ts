/** What the file or directory at a path is, by what is in it. */
import { stat } from "node:fs/promises";
import { HearthError } from "@hearth/errors";
import { ArchiveFile } from "./archive-file.ts";
import { DockerArchiveSource } from "./docker-archive.ts";
import type { ImageSource } from "./image-source.ts";
import { unsupported } from "./manifest.ts";
import { layoutArchive, layoutDirectory, OciLayoutSource } from "./oci-layout.ts";

/**
 * An OCI layout (a directory or a tar archive) or an archive of `docker save`.
 * @throws HearthError `image_not_found`, `image_format_unsupported`, `image_layer_hostile`
 */
export async function openArchive(path: string, signal: AbortSignal): Promise<ImageSource> {
  const found = await stat(path).catch((cause: unknown) => {
    throw new HearthError("image_not_found", { cause });
  });
  if (found.isDirectory()) return new OciLayoutSource(layoutDirectory(path));
  const archive = await ArchiveFile.open(path, signal);
  // Docker 25 and newer write both kinds into one archive. The layout comes first, as its digests are real.
  if (archive.has("index.json")) return new OciLayoutSource(layoutArchive(archive));
  if (archive.has("manifest.json")) return new DockerArchiveSource(archive);
  await archive[Symbol.asyncDispose]();
  throw unsupported("the archive is neither an OCI layout nor made by docker save");
}
