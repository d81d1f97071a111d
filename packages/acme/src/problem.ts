/** What an authority refuses with (RFC 8555 6.7), as an error that keeps its own words. */
import { HearthError } from "@hearth/errors";

export interface Problem {
  /** Without its prefix, as in `rateLimited`. */
  readonly type: string;
  /** The authority's words. */
  readonly detail: string;
  readonly retryAfterMs?: number;
}

const prefix = "urn:ietf:params:acme:error:";
const maxDetail = 1_000;

/** @param body what is said to be a problem document, which an unknown server sent */
export function problemIn(body: unknown, status: number, retryAfterMs?: number): Problem {
  const { type, detail, subproblems } = (typeof body === "object" && body !== null ? body : {}) as {
    readonly type?: unknown;
    readonly detail?: unknown;
    readonly subproblems?: unknown;
  };
  const said = typeof detail === "string" ? detail : `The server answered with status ${status}.`;
  const [first] = Array.isArray(subproblems) ? subproblems : [];
  const more = (first as { readonly detail?: unknown } | undefined)?.detail;
  return {
    type: (typeof type === "string" ? type : "unknown").replace(prefix, "").slice(0, 100),
    detail: (typeof more === "string" && !said.includes(more) ? `${said} ${more}` : said).slice(0, maxDetail),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  };
}

export const refusedWith = ({ type, detail, retryAfterMs }: Problem): HearthError =>
  new HearthError("acme_refused", {
    message: `The certificate authority says: ${detail}`,
    details: { type, detail, ...(retryAfterMs === undefined ? {} : { retry_after_ms: retryAfterMs }) },
  });

/** Undefined for what no authority has said. */
export function problemOf(error: unknown): Problem | undefined {
  if (!(error instanceof HearthError) || error.code !== "acme_refused") return undefined;
  const { type, detail, retry_after_ms } = (error.details ?? {}) as Record<string, unknown>;
  return {
    type: String(type),
    detail: String(detail),
    ...(typeof retry_after_ms === "number" ? { retryAfterMs: retry_after_ms } : {}),
  };
}

export const isRateLimited = ({ type }: Problem): boolean => type === "rateLimited";
