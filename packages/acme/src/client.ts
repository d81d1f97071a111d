/**
 * The client side of RFC 8555 for one account: requests and answers, and nothing of when they are made. Whoever uses it
 * keeps what it needs to go on after a crash: the key and URL of the account, and the URL of the order.
 */
import { HearthError } from "@hearth/errors";
import { type AccountKey, externalBinding, signedBody } from "./jws.ts";
import { problemIn, problemOf, refusedWith } from "./problem.ts";
import type { AcmeAnswer, AcmeTransport } from "./transport.ts";

export const challengeTypes = ["http-01", "tls-alpn-01"] as const;
export type ChallengeType = (typeof challengeTypes)[number];
export const isChallengeType = (text: string): text is ChallengeType =>
  (challengeTypes as readonly string[]).includes(text);

export interface ExternalAccount {
  readonly kid: string;
  /** Base64url. */
  readonly hmacKey: string;
}

export interface AcmeOrder {
  readonly url: string;
  readonly status: string;
  readonly authorizations: readonly string[];
  readonly finalize: string;
  readonly certificate?: string;
  /** Why it is invalid, if the authority says so. */
  readonly error?: HearthError;
  /** When to look again. */
  readonly retryAfterMs?: number;
}

export interface AcmeChallenge {
  readonly type: string;
  readonly url: string;
  readonly token: string;
  readonly status: string;
  readonly error?: HearthError;
}

export interface AcmeAuthorization {
  readonly status: string;
  readonly challenges: readonly AcmeChallenge[];
  readonly retryAfterMs?: number;
}

export interface AcmeClientOptions {
  readonly directoryUrl: string;
  readonly transport: AcmeTransport;
  readonly key: AccountKey;
  /** As the authority named it; found by `register` when absent. */
  readonly accountUrl?: string | undefined;
  readonly nowMs: () => number;
}

interface Directory {
  readonly newNonce: string;
  readonly newAccount: string;
  readonly newOrder: string;
  readonly needsExternalAccount: boolean;
}

const nonceTries = 4;

export class AcmeClient {
  readonly #options: AcmeClientOptions;
  #accountUrl: string | undefined;
  #directory: Directory | undefined;
  #nonce: string | undefined;

  constructor(options: AcmeClientOptions) {
    this.#options = options;
    this.#accountUrl = options.accountUrl;
  }

  /**
   * Makes the account, or finds that of this key, and answers its URL. By it the operator agrees to the terms.
   * @throws HearthError `acme_refused`, `unavailable`, as all calls here
   */
  async register(
    wish: { readonly email?: string | undefined; readonly external?: ExternalAccount | undefined },
    signal?: AbortSignal,
  ): Promise<string> {
    const { newAccount, needsExternalAccount } = await this.#find(signal);
    if (needsExternalAccount && wish.external === undefined)
      throw refusedWith({
        type: "externalAccountRequired",
        detail: "The directory asks for an external account (EAB), and none is set.",
      });
    const { headers } = await this.#post(newAccount, this.#accountWish(wish, newAccount), signal);
    this.#accountUrl = textOf(headers.location, "the account");
    return this.#accountUrl;
  }

  #accountWish(
    {
      email,
      external,
    }: { readonly email?: string | undefined; readonly external?: ExternalAccount | undefined },
    url: string,
  ): object {
    return {
      termsOfServiceAgreed: true,
      ...(email === undefined ? {} : { contact: [`mailto:${email}`] }),
      ...(external === undefined
        ? {}
        : { externalAccountBinding: externalBinding(this.#options.key, external, url) }),
    };
  }

  async newOrder(hostname: string, signal?: AbortSignal): Promise<AcmeOrder> {
    const { newOrder } = await this.#find(signal);
    const payload = { identifiers: [{ type: "dns", value: hostname }] };
    const answer = await this.#post(newOrder, payload, signal);
    return this.#orderOf(textOf(answer.headers.location, "the order"), answer);
  }

  async order(url: string, signal?: AbortSignal): Promise<AcmeOrder> {
    return this.#orderOf(url, await this.#post(url, undefined, signal));
  }

  async authorization(url: string, signal?: AbortSignal): Promise<AcmeAuthorization> {
    const answer = await this.#post(url, undefined, signal);
    const { status, challenges } = bodyOf(answer);
    const retryAfterMs = this.#retryAfter(answer);
    return {
      status: textOf(status, "the authorization"),
      challenges: (Array.isArray(challenges) ? challenges : []).map(challengeOf),
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    };
  }

  /** That the authority may look: what it wants to see is there. */
  async respond(challengeUrl: string, signal?: AbortSignal): Promise<void> {
    await this.#post(challengeUrl, {}, signal);
  }

  async finalize(order: AcmeOrder, request: Buffer, signal?: AbortSignal): Promise<AcmeOrder> {
    const payload = { csr: request.toString("base64url") };
    return this.#orderOf(order.url, await this.#post(order.finalize, payload, signal));
  }

  /** PEM, the leaf first. */
  async certificate(url: string, signal?: AbortSignal): Promise<string> {
    return (await this.#post(url, undefined, signal)).body;
  }

  #orderOf(url: string, answer: AcmeAnswer): AcmeOrder {
    const { status, authorizations, finalize, certificate, error } = bodyOf(answer);
    const retryAfterMs = this.#retryAfter(answer);
    return {
      url,
      status: textOf(status, "the order"),
      authorizations: (Array.isArray(authorizations) ? authorizations : []).map((each) =>
        textOf(each, "the order"),
      ),
      finalize: textOf(finalize, "the order"),
      ...(typeof certificate === "string" ? { certificate } : {}),
      ...(error === undefined ? {} : { error: refusedWith(problemIn(error, answer.status)) }),
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    };
  }

  async #find(signal: AbortSignal | undefined): Promise<Directory> {
    if (this.#directory !== undefined) return this.#directory;
    const { directoryUrl, transport } = this.#options;
    const answer = await transport({ method: "GET", url: directoryUrl, signal });
    if (answer.status !== 200)
      throw refusedWith(problemIn(undefined, answer.status, this.#retryAfter(answer)));
    const { newNonce, newAccount, newOrder, meta } = bodyOf(answer);
    this.#directory = {
      newNonce: textOf(newNonce, "the directory"),
      newAccount: textOf(newAccount, "the directory"),
      newOrder: textOf(newOrder, "the directory"),
      needsExternalAccount:
        (meta as { readonly externalAccountRequired?: unknown } | undefined)?.externalAccountRequired ===
        true,
    };
    return this.#directory;
  }

  /** A nonce that the authority does not take is no refusal; it sends another with it (RFC 8555 6.5). */
  async #post(
    url: string,
    payload: object | undefined,
    signal: AbortSignal | undefined,
  ): Promise<AcmeAnswer> {
    const { key, transport } = this.#options;
    for (let attempt = 1; ; attempt += 1) {
      const nonce = await this.#takeNonce(signal);
      const body = signedBody({ key, kid: this.#accountUrl, nonce, url, payload });
      const answer = await transport({ method: "POST", url, body, signal });
      this.#nonce = nonceOf(answer);
      if (answer.status < 400) return answer;
      const refused = refusedWith(problemIn(parsed(answer.body), answer.status, this.#retryAfter(answer)));
      if (problemOf(refused)?.type !== "badNonce" || attempt === nonceTries) throw refused;
    }
  }

  async #takeNonce(signal: AbortSignal | undefined): Promise<string> {
    const kept = this.#nonce;
    this.#nonce = undefined;
    if (kept !== undefined) return kept;
    const { newNonce } = await this.#find(signal);
    const answer = await this.#options.transport({ method: "HEAD", url: newNonce, signal });
    return textOf(nonceOf(answer), "the nonce");
  }

  /** RFC 9110 10.2.3: seconds, or a date. */
  #retryAfter({ headers }: AcmeAnswer): number | undefined {
    const text = headers["retry-after"];
    if (text === undefined) return undefined;
    const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - this.#options.nowMs();
    return Number.isNaN(ms) ? undefined : Math.max(0, ms);
  }
}

function challengeOf(value: unknown): AcmeChallenge {
  const { type, url, token, status, error } = (value ?? {}) as Record<string, unknown>;
  return {
    type: String(type),
    url: typeof url === "string" ? url : "",
    // It becomes part of a path that is answered to anybody, and of a key authorization.
    token: typeof token === "string" && /^[A-Za-z0-9_-]{1,256}$/.test(token) ? token : "",
    status: String(status),
    ...(error === undefined ? {} : { error: refusedWith(problemIn(error, 0)) }),
  };
}

const nonceOf = ({ headers }: AcmeAnswer): string | undefined => {
  const nonce = headers["replay-nonce"];
  return typeof nonce === "string" ? nonce : undefined;
};

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function bodyOf({ body }: AcmeAnswer): Record<string, unknown> {
  const value = parsed(body);
  if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  throw notAcme("its answer");
}

function textOf(value: unknown, what: string): string {
  if (typeof value === "string" && value !== "") return value;
  throw notAcme(what);
}

const notAcme = (what: string): HearthError =>
  new HearthError("unavailable", {
    message: `What answers at the ACME directory does not speak ACME (${what}); check its URL.`,
  });
