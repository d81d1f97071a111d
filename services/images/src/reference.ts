/**
 * Image references, read the way Docker reads them, so that what works with `docker pull` works here.
 *
 * `alpine` is `docker.io/library/alpine:latest`. The first component is a registry only when it looks like
 * a host (a dot, a port, or `localhost`). A digest wins over a tag that stands beside it.
 * Grammar: https://github.com/distribution/reference/blob/main/reference.go
 */
import { HearthError } from "@hearth/errors";

export interface ImageReference {
  /** Host and optional port, `docker.io` when none is written. */
  readonly registry: string;
  /** Path inside the registry, with `library/` where Docker Hub implies it. */
  readonly repository: string;
  /** Absent only when the reference has a digest and no tag. */
  readonly tag?: string;
  /** `sha256:` and 64 hex digits. */
  readonly digest?: string;
}

const defaultRegistry = "docker.io";
const maxNameLength = 255;
const domain =
  /^(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(?::[0-9]{1,5})?$/;
const pathComponent = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const digestPattern = /^sha256:[a-f0-9]{64}$/;
const bareId = /^[a-f0-9]{64}$/;

/** Whether `text` is a sha256 digest in the form the store accepts. */
export const isDigest = (text: string): boolean => digestPattern.test(text);

/** @throws HearthError `image_reference_invalid` */
export function parseReference(text: string): ImageReference {
  // Longer than any valid reference: refuse before the patterns look at it.
  if (text.length === 0 || text.length > 1024) throw invalid(text, "its length");
  let rest = text;
  let digest: string | undefined;
  const at = rest.indexOf("@");
  if (at >= 0) {
    digest = rest.slice(at + 1);
    rest = rest.slice(0, at);
    if (!isDigest(digest)) throw invalid(text, "its digest");
  }
  let tag: string | undefined;
  const colon = rest.lastIndexOf(":");
  if (colon > rest.lastIndexOf("/")) {
    tag = rest.slice(colon + 1);
    rest = rest.slice(0, colon);
    if (!tagPattern.test(tag)) throw invalid(text, "its tag");
  }
  const { registry, repository } = splitName(rest);
  if (!domain.test(registry)) throw invalid(text, "its registry");
  if (!repository.split("/").every((part) => pathComponent.test(part))) throw invalid(text, "its repository");
  if (repository.length > maxNameLength) throw invalid(text, "its length");
  // Docker refuses this too: it could be an image id.
  if (bareId.test(rest)) throw invalid(text, "its repository");
  if (digest === undefined) return { registry, repository, tag: tag ?? "latest" };
  return tag === undefined ? { registry, repository, digest } : { registry, repository, tag, digest };
}

/** The canonical spelling; parsing it gives the same reference again. */
export function formatReference(reference: ImageReference): string {
  const tag = reference.tag === undefined ? "" : `:${reference.tag}`;
  const digest = reference.digest === undefined ? "" : `@${reference.digest}`;
  return `${reference.registry}/${reference.repository}${tag}${digest}`;
}

function splitName(name: string): { registry: string; repository: string } {
  const slash = name.indexOf("/");
  const head = slash < 0 ? "" : name.slice(0, slash);
  const isHost = /[.:]/.test(head) || head === "localhost" || head !== head.toLowerCase();
  let registry = isHost ? head : defaultRegistry;
  let repository = isHost ? name.slice(slash + 1) : name;
  if (registry === "index.docker.io") registry = defaultRegistry;
  if (registry === defaultRegistry && !repository.includes("/")) repository = `library/${repository}`;
  return { registry, repository };
}

function invalid(text: string, part: string): HearthError {
  return new HearthError("image_reference_invalid", {
    message: `The image reference is not valid because of ${part}; write it as registry/repository:tag.`,
    details: { reference: text.slice(0, 256) },
  });
}
