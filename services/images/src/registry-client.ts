/**
 * Pulls from a registry over HTTP (OCI distribution spec 1.1). Authentication is found out, not configured:
 * a first request goes out bare, and the challenge of a 401 says whether to send basic credentials or to
 * fetch a token. Credentials go to the registry and to the token server that it names over https, nowhere
 * else: `fetch` drops the header when a blob is redirected to another origin.
 */
import { HearthError } from "@hearth/errors";
import type { BlobStream, ImageSource } from "./image-source.ts";
import { type Descriptor, manifestMediaTypes, maxManifestBytes, unsupported } from "./manifest.ts";
import type { ImageReference } from "./reference.ts";

export interface RegistryCredentials {
  readonly username: string;
  readonly password: string;
}

export interface RegistryOptions {
  readonly credentials?: RegistryCredentials;
  /** Plain http; always on for loopback, as in Docker. */
  readonly insecure?: boolean;
  /** Limit for the answer's headers and for each silence in a body. */
  readonly idleTimeoutMs?: number;
}

const loopback = /^(localhost|127\.[0-9.]+|\[::1\])(:\d+)?$/;

export class RegistryClient implements ImageSource {
  readonly #reference: ImageReference;
  readonly #options: RegistryOptions;
  readonly #base: string;
  readonly #secure: boolean;
  #authorization: string | undefined;

  constructor(reference: ImageReference, options: RegistryOptions = {}) {
    this.#reference = reference;
    this.#options = options;
    this.#secure = !(options.insecure ?? loopback.test(reference.registry));
    const host = reference.registry === "docker.io" ? "registry-1.docker.io" : reference.registry;
    this.#base = `${this.#secure ? "https" : "http"}://${host}/v2/${reference.repository}`;
  }

  /** @throws HearthError `image_not_found`, `image_unauthorized`, `registry_unavailable` */
  async manifest(digest: string | undefined, signal: AbortSignal): Promise<Buffer> {
    const selector = digest ?? this.#reference.digest ?? this.#reference.tag ?? "latest";
    const response = await this.#get(
      `/manifests/${selector}`,
      { Accept: manifestMediaTypes.join(", ") },
      signal,
    );
    const chunks: Uint8Array[] = [];
    let total = 0;
    for await (const chunk of this.#body(response)) {
      total += chunk.length;
      if (total > maxManifestBytes) throw unsupported("a manifest is too large");
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  }

  /** @throws HearthError `image_not_found`, `image_unauthorized`, `registry_unavailable` */
  async blob(descriptor: Descriptor, offset: number, signal: AbortSignal): Promise<BlobStream> {
    // A complete partial file needs no bytes, and its range would not be satisfiable.
    if (offset > 0 && offset === descriptor.size) return { body: nothing(), offset };
    const range = offset > 0 ? { Range: `bytes=${offset}-` } : {};
    const response = await this.#get(`/blobs/${descriptor.digest}`, range, signal);
    const resumed = response.headers.get("content-range")?.startsWith(`bytes ${offset}-`) === true;
    return { body: this.#body(response), offset: response.status === 206 && resumed ? offset : 0 };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#authorization = undefined;
  }

  async #get(path: string, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
    let response = await this.#send(path, headers, signal);
    if (response.status === 401) {
      await response.body?.cancel();
      await this.#answer(response.headers.get("www-authenticate") ?? "", signal);
      response = await this.#send(path, headers, signal);
    }
    if (response.ok) return response;
    await response.body?.cancel();
    throw refusal(response.status);
  }

  async #send(path: string, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
    const authorization = this.#authorization === undefined ? {} : { Authorization: this.#authorization };
    return await this.#fetch(`${this.#base}${path}`, { ...headers, ...authorization }, signal);
  }

  async #fetch(url: string, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), this.#options.idleTimeoutMs ?? 30_000);
    try {
      // The body outlives this call, so the limit for headers is disarmed once they are here.
      return await fetch(url, { headers, signal: AbortSignal.any([signal, late.signal]) });
    } catch (cause) {
      signal.throwIfAborted();
      throw new HearthError("registry_unavailable", { cause });
    } finally {
      clearTimeout(timer);
    }
  }

  /** Learns the authorization that a challenge asks for (RFC 9110 section 11.6.1, distribution token spec). */
  async #answer(challenge: string, signal: AbortSignal): Promise<void> {
    const { credentials } = this.#options;
    const basic =
      credentials &&
      `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString("base64")}`;
    if (/^basic\b/i.test(challenge) && basic !== undefined) {
      this.#authorization = basic;
      return;
    }
    const parameters = new Map(
      [...challenge.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, value]) => [key, value]),
    );
    const realm = parameters.get("realm");
    if (!/^bearer\b/i.test(challenge) || realm === undefined || !URL.canParse(realm)) throw refusal(401);
    const url = new URL(realm);
    const allowed = url.protocol === "https:" || (url.protocol === "http:" && !this.#secure);
    if (!allowed) throw refusal(401);
    const service = parameters.get("service");
    if (service !== undefined) url.searchParams.set("service", service);
    url.searchParams.set("scope", parameters.get("scope") ?? `repository:${this.#reference.repository}:pull`);
    const response = await this.#fetch(url.href, basic === undefined ? {} : { Authorization: basic }, signal);
    if (!response.ok) {
      await response.body?.cancel();
      throw refusal(response.status);
    }
    const answer = (await response.json().catch(() => ({}))) as { token?: unknown; access_token?: unknown };
    const token = answer.token ?? answer.access_token;
    if (typeof token !== "string") throw refusal(401);
    this.#authorization = `Bearer ${token}`;
  }

  async *#body(response: Response): AsyncGenerator<Uint8Array> {
    if (response.body === null) return;
    const reader = response.body.getReader();
    try {
      while (true) {
        const { done, value } = await this.#withinIdle(reader.read());
        if (done) return;
        yield value;
      }
    } catch (cause) {
      if ((cause as Error).name === "AbortError") throw cause;
      throw cause instanceof HearthError ? cause : new HearthError("registry_unavailable", { cause });
    } finally {
      await reader.cancel().catch(() => undefined);
    }
  }

  async #withinIdle<T>(reading: Promise<T>): Promise<T> {
    const { promise, reject } = Promise.withResolvers<never>();
    const expire = (): void =>
      reject(new HearthError("registry_unavailable", { details: { reason: "silence" } }));
    const timer = setTimeout(expire, this.#options.idleTimeoutMs ?? 30_000);
    try {
      return await Promise.race([reading, promise]);
    } finally {
      clearTimeout(timer);
    }
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {
  yield* [];
}

function refusal(status: number): HearthError {
  const details = { status };
  if (status === 401 || status === 403) return new HearthError("image_unauthorized", { details });
  if (status === 404) return new HearthError("image_not_found", { details });
  return new HearthError("registry_unavailable", { details });
}
