/**
 * Issues, shows and revokes tokens. The fact comes before the token: nobody holds a token that cannot be revoked.
 * A token carries the hashes of all that it was issued from, so that it ends with any of them.
 */
import { HearthError } from "@hearth/errors";
import { factKeys, type TokenFact, type TokenScope } from "@hearth/machine";
import { SignJWT } from "jose";
import type { ApiContext } from "../api-context.ts";
import { invalid } from "../http/validation.ts";
import type { AnnounceDeps } from "../state/announce.ts";
import { announceKey } from "../state/announce.ts";
import { type FactWrite, writeFact } from "../state/write-fact.ts";
import type { Caller, Credential } from "./caller.ts";
import type { KnownToken, TokenIndex } from "./token-index.ts";
import { isWithin, narrow, type WantedScope } from "./token-scope.ts";
import { hashId, longestChain, maxTokenBytes, tokenIssuer, tokenType } from "./token-verify.ts";

export const defaultLifeSeconds = 86_400;
export const longestLifeSeconds = 365 * 86_400;
/** A day more than clocks of hosts should ever differ by. */
const keptAfterEndMs = 86_400_000;

export interface IssuerDeps extends AnnounceDeps {
  readonly tokens: TokenIndex;
  readonly randomBytes: (length: number) => Uint8Array;
}

export interface WantedToken extends WantedScope {
  readonly label?: string | undefined;
  readonly expiresInSeconds?: number | undefined;
  /** When none is asked for, or what is left of the token in use; a day when absent. */
  readonly defaultSeconds?: number | undefined;
}

/** The public id: enough of the hash to name it, and nothing that lets anybody use it. */
export const shortId = (hash: string): string => hash.slice(0, 16);
export const idOf = (credential: Credential): string =>
  credential.kind === "token" ? shortId(credential.hash) : "operator";

export class TokenIssuer {
  readonly #deps: IssuerDeps;

  constructor(deps: IssuerDeps) {
    this.#deps = deps;
  }

  /** @throws HearthError `permission_denied` when it would be wider than what the caller has */
  async issue(caller: Caller, wanted: WantedToken): Promise<{ token: string; known: KnownToken }> {
    const { parent, scope } = narrowest(caller, wanted);
    const chain = parent.kind === "token" ? [...parent.chain, parent.hash] : [];
    if (chain.length > longestChain)
      throw new HearthError("permission_denied", {
        message: `Tokens may be issued one from another ${longestChain} times; use one that is nearer to the operator.`,
      });
    const nowMs = this.#deps.nowMs();
    const expiresAtMs = endOf(parent, wanted, nowMs);
    const id = Buffer.from(this.#deps.randomBytes(16)).toString("base64url");
    const hash = hashId(id);
    const { kid } = this.#deps.signingKey;
    const token = await this.#sign({ id, scope, chain, nowMs, expiresAtMs });
    if (token.length > maxTokenBytes)
      throw invalid("apps", `make a token longer than ${maxTokenBytes} bytes`);
    const fact: TokenFact = {
      label: wanted.label ?? "",
      scope,
      created_at_ms: nowMs,
      expires_at_ms: expiresAtMs,
      chain,
      issuer: idOf(parent),
      kid,
    };
    await announceKey(this.#deps);
    const revision = await this.#write({ key: factKeys.token(hash), value: fact, expectedRevision: 0 });
    return { token, known: { ...fact, hash, revision } };
  }

  /** What the caller may see: what was issued from its tokens, these, and for `tokens` all that its scope holds. */
  visible(caller: Caller): KnownToken[] {
    return this.#deps.tokens.all().filter((known) => caller.credentials.some((each) => sees(each, known)));
  }

  /** @throws HearthError `not_found` also for what the caller may not see, `conflict` when the id is not clear */
  async revoke(caller: Caller, id: string): Promise<KnownToken> {
    const key = this.#named(caller, id).hash;
    for (;;) {
      const found = this.#named(caller, key);
      if (found.revoked_at_ms !== undefined) return found;
      const { hash, revision, ...fact } = found;
      const by = caller.credentials.find((each) => sees(each, found));
      const revoked: TokenFact = {
        ...fact,
        revoked_at_ms: this.#deps.nowMs(),
        revoked_by: by === undefined ? "operator" : idOf(by),
      };
      try {
        const key = factKeys.token(hash);
        const written = await this.#write({ key, value: revoked, expectedRevision: revision });
        return { ...revoked, hash, revision: written };
      } catch (thrown) {
        // Only a revocation changes a token, so who lost the race has what it wanted; if not, it is told.
        const now = this.#deps.tokens.find(hash);
        if (HearthError.from(thrown).code !== "conflict" || now?.revision === revision) throw thrown;
      }
    }
  }

  /** Forgets tokens that have been over for so long that no clock takes them for good. */
  async sweep(): Promise<void> {
    const { tokens, nowMs } = this.#deps;
    for (const { hash, expires_at_ms } of tokens.all())
      if (expires_at_ms + keptAfterEndMs < nowMs())
        await this.#write({ key: factKeys.token(hash), value: undefined });
  }

  #write(write: FactWrite): Promise<number> {
    return writeFact({ view: this.#deps, facts: this.#deps.facts }, write);
  }

  #named(caller: Caller, id: string): KnownToken {
    const found = this.visible(caller).filter(({ hash }) => hash.startsWith(id));
    const [only] = found;
    if (only !== undefined && found.length === 1) return only;
    if (only === undefined)
      throw new HearthError("not_found", {
        message: `There is no token ${id}; list the tokens.`,
        details: { token: id },
      });
    throw new HearthError("conflict", {
      message: `${found.length} tokens have an id that begins with ${id}; give more of it.`,
    });
  }

  #sign(token: {
    readonly id: string;
    readonly scope: TokenScope;
    readonly chain: readonly string[];
    readonly nowMs: number;
    readonly expiresAtMs: number;
  }): Promise<string> {
    const { kid, privateKey } = this.#deps.signingKey;
    return new SignJWT({ scope: token.scope, chain: token.chain })
      .setProtectedHeader({ alg: "EdDSA", kid, typ: tokenType })
      .setIssuer(tokenIssuer)
      .setJti(token.id)
      .setIssuedAt(Math.floor(token.nowMs / 1000))
      .setExpirationTime(Math.floor(token.expiresAtMs / 1000))
      .sign(privateKey);
  }
}

/** The first of the caller's credentials that may issue it; if none may, what the first says. */
function narrowest(caller: Caller, wanted: WantedToken): { parent: Credential; scope: TokenScope } {
  let refusal: unknown;
  for (const parent of caller.credentials)
    try {
      return { parent, scope: narrow(parent.scope, wanted) };
    } catch (thrown) {
      refusal ??= thrown;
    }
  throw refusal;
}

function endOf(parent: Credential, wanted: WantedToken, nowMs: number): number {
  const { expiresInSeconds: wantedSeconds, defaultSeconds = defaultLifeSeconds } = wanted;
  // Whole seconds, as a JWT has them.
  const endMs = (Math.floor(nowMs / 1000) + (wantedSeconds ?? defaultSeconds)) * 1000;
  if (parent.kind === "operator" || endMs <= parent.expiresAtMs) return endMs;
  if (wantedSeconds === undefined) return parent.expiresAtMs;
  throw new HearthError("permission_denied", {
    message: `A token can only issue narrower ones, and this one is wider: it would end after ${new Date(parent.expiresAtMs).toISOString()}.`,
    details: { wider: ["expires_in"] },
  });
}

function sees(credential: Credential, { hash, chain, scope }: KnownToken): boolean {
  if (credential.kind === "operator") return true;
  if (hash === credential.hash || chain.includes(credential.hash)) return true;
  return credential.scope.verbs.includes("tokens") && isWithin(scope, credential.scope);
}

/**
 * The org of the apps that a token is for. It is part of the scope, so that an app of the same name that another org
 * makes later is not in it, and the token cannot make an app in another org's network.
 */
export function orgOf(
  { view }: ApiContext,
  caller: Caller,
  apps: readonly string[] | undefined,
): string | undefined {
  if (apps === undefined || caller.credentials.every(({ scope }) => scope.org !== undefined))
    return undefined;
  const known = apps.flatMap((name) => view.findApp(name)?.value ?? []);
  const orgs = [...new Set(known.filter((each) => caller.seesApp(view, each)).map((each) => each.org_slug))];
  if (orgs.length > 1)
    throw invalid("apps", `are of several orgs (${orgs.join(", ")}); issue one token an org`);
  return orgs[0] ?? "personal";
}
