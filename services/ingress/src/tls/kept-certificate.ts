/**
 * One certificate of this host's authority: made when it is first asked for, kept, and made again in good time. While
 * that fails the one before is shown, for as long as it is good.
 */
import { createSecureContext, type SecureContext } from "node:tls";
import type { KeyAndCertificate } from "./local-ca.ts";

export interface Made {
  readonly pair: KeyAndCertificate;
  readonly context: SecureContext;
}

const renewBeforeMs = 30 * 24 * 3_600_000;
/** One that could not be made is not tried again for each connection. */
const retryMs = 5_000;

export const contextOf = (pair: KeyAndCertificate): Made => {
  const { key, cert } = pair;
  return { pair, context: createSecureContext({ key, cert, minVersion: "TLSv1.2" }) };
};

export class KeptCertificate {
  readonly #issue: () => Promise<KeyAndCertificate>;
  readonly #nowMs: () => number;
  #made: Made | undefined;
  /** Under way, or what came of it until it may be tried again. */
  #making: Promise<Made> | undefined;
  #retryAtMs = Number.POSITIVE_INFINITY;

  constructor(issue: () => Promise<KeyAndCertificate>, nowMs: () => number) {
    this.#issue = issue;
    this.#nowMs = nowMs;
  }

  current(): Promise<Made> {
    const nowMs = this.#nowMs();
    const expiresMs = this.#made?.pair.expiresMs ?? 0;
    if (this.#made !== undefined && nowMs < expiresMs) {
      // Who waits for a renewal is nobody; what came of it is seen by the next one.
      if (nowMs >= expiresMs - renewBeforeMs) this.#make(nowMs).catch(() => undefined);
      return Promise.resolve(this.#made);
    }
    return this.#make(nowMs);
  }

  #make(nowMs: number): Promise<Made> {
    if (this.#making !== undefined && nowMs < this.#retryAtMs) return this.#making;
    this.#retryAtMs = Number.POSITIVE_INFINITY;
    this.#making = this.#issue().then(
      (pair) => {
        this.#made = contextOf(pair);
        this.#making = undefined;
        return this.#made;
      },
      (error: unknown) => {
        this.#retryAtMs = this.#nowMs() + retryMs;
        throw error;
      },
    );
    return this.#making;
  }
}
