/**
 * Manifests, indexes and configs, parsed once at the border. Both families are read: OCI image spec 1.1
 * and Docker image manifest version 2, schema 2; they differ in media types only.
 */
import { HearthError } from "@hearth/errors";
import { isDigest } from "./reference.ts";

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

export interface Platform {
  readonly os: string;
  /** GOARCH: `amd64`, `arm64`. */
  readonly architecture: string;
}

export interface ImageManifest {
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}

export interface ImageConfig {
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly env: readonly string[];
  readonly user: string;
  readonly workdir: string;
  readonly stopSignal: string;
  readonly labels: Readonly<Record<string, string>>;
}

type Json = Record<string, unknown>;

/** What a registry is asked for, indexes first. */
export const manifestMediaTypes = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
] as const;

export const maxManifestBytes = 4 * 1024 * 1024;
const maxLayers = 512;

export function hostPlatform(): Platform {
  return { os: "linux", architecture: process.arch === "x64" ? "amd64" : process.arch };
}

/**
 * Either the image's manifest or, for an index, the descriptor of the platform's manifest.
 * @throws HearthError `image_format_unsupported`, `image_platform_missing`
 */
export function readManifest(bytes: Buffer, platform: Platform): ImageManifest | Descriptor {
  const json = object(parseJson(bytes));
  if (Array.isArray(json.manifests)) return choosePlatform(json.manifests, platform);
  if (!Array.isArray(json.layers)) throw unsupported("the manifest has no layers");
  if (json.layers.length > maxLayers) throw unsupported("the manifest has too many layers");
  return { config: descriptor(json.config), layers: json.layers.map(descriptor) };
}

export const isImageManifest = (read: ImageManifest | Descriptor): read is ImageManifest => "layers" in read;

/** @throws HearthError `image_format_unsupported`, `image_platform_missing` */
export function readConfig(bytes: Buffer, platform: Platform): { config: ImageConfig; diffIds: string[] } {
  const json = object(parseJson(bytes));
  const rootfs = object(json.rootfs);
  const diffIds = strings(rootfs.diff_ids);
  if (!diffIds.every(isDigest)) throw unsupported("a diff id is not a sha256 digest");
  // A manifest outside an index names its platform here only.
  const other = typeof json.architecture === "string" && json.architecture !== platform.architecture;
  if (other)
    throw new HearthError("image_platform_missing", {
      details: { wanted: platform, found: json.architecture },
    });
  const inner = json.config === undefined || json.config === null ? {} : object(json.config);
  const labels = inner.Labels === undefined || inner.Labels === null ? {} : object(inner.Labels);
  return {
    diffIds,
    config: {
      entrypoint: strings(inner.Entrypoint),
      cmd: strings(inner.Cmd),
      env: strings(inner.Env),
      user: optionalString(inner.User),
      workdir: optionalString(inner.WorkingDir),
      stopSignal: optionalString(inner.StopSignal),
      labels: Object.fromEntries(Object.entries(labels).map(([key, value]) => [key, String(value)])),
    },
  };
}

function choosePlatform(manifests: unknown[], wanted: Platform): Descriptor {
  const found: string[] = [];
  for (const item of manifests) {
    const entry = object(item);
    // An index of one image may leave the platform out; its config is checked later.
    if (entry.platform === undefined && manifests.length === 1) return descriptor(entry);
    if (entry.platform === undefined) continue;
    const platform = object(entry.platform);
    if (platform.os === wanted.os && platform.architecture === wanted.architecture) return descriptor(entry);
    found.push(`${platform.os}/${platform.architecture}`);
  }
  throw new HearthError("image_platform_missing", { details: { wanted, found: found.slice(0, 32) } });
}

function descriptor(value: unknown): Descriptor {
  const { mediaType, digest, size } = object(value);
  if (typeof digest !== "string" || !isDigest(digest)) throw unsupported("a digest is not sha256");
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0)
    throw unsupported("a size is not a number");
  return { mediaType: typeof mediaType === "string" ? mediaType : "", digest, size };
}

export function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch (cause) {
    throw unsupported("a document is not JSON", cause);
  }
}

function object(value: unknown): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw unsupported("a document has another shape");
  return value as Json;
}

function strings(value: unknown): string[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || !value.every((item) => typeof item === "string")) {
    throw unsupported("a list has another shape");
  }
  return value;
}

const optionalString = (value: unknown): string => (typeof value === "string" ? value : "");

export function unsupported(reason: string, cause?: unknown): HearthError {
  return new HearthError("image_format_unsupported", { details: { reason }, cause });
}
