/**
 * The certificate of the domain and of all names below it: made when it is first asked for, kept, and made again in
 * good time. While that fails the one before is shown, for as long as it is good. A name that is not served has none,
 * and its client learns nothing but that.
 */
import { createSecureContext, type SecureContext } from "node:tls";
import type { KeyAndCertificate } from "./local-ca.ts";

export interface CertificatesDeps {
  readonly domain: string;
  readonly issue: (names: readonly string[]) => Promise<KeyAndCertificate>;
  readonly nowMs: () => number;
}

interface Made {
  readonly pair: KeyAndCertificate;
  readonly context: SecureContext;
}

const renewBeforeMs = 30 * 24 * 3_600_000;
/** One that could not be made is not tried again for each connection. */
const retryMs = 5_000;

export class Certificates {
  readonly #deps: CertificatesDeps;
  #made: Made | undefined;
  /** Under way, or what came of it until it may be tried again. */
  #making: Promise<Made> | undefined;
  #retryAtMs = Number.POSITIVE_INFINITY;

  constructor(deps: CertificatesDeps) {
    this.#deps = deps;
  }

  /** For clients that name none. */
  async ofDomain(): Promise<KeyAndCertificate> {
    return (await this.#current()).pair;
  }

  /** Undefined for a name that is not served. */
  async contextFor(name: string): Promise<SecureContext | undefined> {
    const { domain } = this.#deps;
    const lower = name.toLowerCase();
    const isOwn =
      lower === domain || (lower.endsWith(`.${domain}`) && !lower.slice(0, -domain.length - 1).includes("."));
    return isOwn ? (await this.#current()).context : undefined;
  }

  #current(): Promise<Made> {
    const nowMs = this.#deps.nowMs();
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
    const { domain, issue } = this.#deps;
    this.#retryAtMs = Number.POSITIVE_INFINITY;
    this.#making = issue([domain, `*.${domain}`]).then(
      (pair) => {
        const { key, cert } = pair;
        this.#made = { pair, context: createSecureContext({ key, cert, minVersion: "TLSv1.2" }) };
        this.#making = undefined;
        return this.#made;
      },
      (error: unknown) => {
        this.#retryAtMs = this.#deps.nowMs() + retryMs;
        throw error;
      },
    );
    return this.#making;
  }
}
