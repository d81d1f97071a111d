/**
 * What authorities ask to see while a certificate is ordered, by name: whichever host they come to shows it. HTTP-01 is a
 * text at a path (RFC 8555 8.3), TLS-ALPN-01 a certificate for a connection that speaks `acme-tls/1` (RFC 8737).
 */
import { createSecureContext, type SecureContext } from "node:tls";
import type { Fact, Replica } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import {
  type AcmeChallengeFact,
  type AcmeFact,
  type ChallengeQuestion,
  factPrefixes,
  keyPurposes,
} from "@hearth/machine";

export const challengePath = "/.well-known/acme-challenge/";

type OpenKey = (purpose: string, sealed: string) => string | undefined;

export class Challenges {
  readonly #shown = new Map<string, AcmeChallengeFact>();
  readonly #openKey: OpenKey;
  readonly #watchers = new Set<() => void>();

  /** @param replica already started */
  constructor(replica: Pick<Replica, "scan" | "watch">, openKey: OpenKey) {
    this.#openKey = openKey;
    for (const fact of replica.scan(factPrefixes.acme)) this.#take(fact);
    replica.watch(factPrefixes.acme, (fact) => this.#take(fact));
  }

  /** What is answered at this path of this name; undefined leaves it to the app. */
  textFor(host: string, path: string): string | undefined {
    if (!path.startsWith(challengePath)) return undefined;
    const challenge = this.#shown.get(host);
    const isMeant = challenge?.type === "http-01" && challenge.token === path.slice(challengePath.length);
    return isMeant ? challenge.key_authorization : undefined;
  }

  /** Undefined when nobody is to be shown anything for this name. */
  contextFor(host: string): SecureContext | undefined {
    const proof = this.#shown.get(host)?.proof;
    const key = proof && this.#openKey(keyPurposes.proof(host), proof.sealed_key);
    return proof === undefined || key === undefined
      ? undefined
      : createSecureContext({ key, cert: proof.cert });
  }

  /** What another service asks of this one. @throws HearthError `invalid_argument` */
  static readQuestion(asked: unknown): ChallengeQuestion {
    const { hostname, token } = (asked ?? {}) as Record<string, unknown>;
    if (typeof hostname === "string" && typeof token === "string") return { hostname, token };
    throw new HearthError("invalid_argument", { message: "A challenge has a hostname and a token." });
  }

  /** Resolves when it is shown, or with false at the end of the time. */
  async shows({ hostname, token }: ChallengeQuestion, limitMs: number): Promise<boolean> {
    const isShown = (): boolean => this.#shown.get(hostname)?.token === token;
    const { promise, resolve } = Promise.withResolvers<void>();
    const look = (): void => {
      if (isShown()) resolve();
    };
    const timer = setTimeout(resolve, limitMs);
    this.#watchers.add(look);
    look();
    await promise;
    clearTimeout(timer);
    this.#watchers.delete(look);
    return isShown();
  }

  #take({ key, value }: Fact): void {
    const hostname = key.slice(factPrefixes.acme.length);
    const challenge = (value as AcmeFact | undefined)?.order?.challenge;
    if (challenge === undefined) this.#shown.delete(hostname);
    else this.#shown.set(hostname, challenge);
    for (const look of this.#watchers) look();
  }
}
