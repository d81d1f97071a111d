/**
 * Which certificate a client is shown for a name: made when the first one asks, kept, and made again in good time.
 * A name that is not served has none, and its client learns nothing but that.
 */
import { createSecureContext, type SecureContext } from "node:tls";
import type { KeyAndCertificate } from "./local-ca.ts";

export interface CertificatesDeps {
  readonly domain: string;
  readonly issue: (names: readonly string[]) => Promise<KeyAndCertificate>;
  /** Other names that are served here. */
  readonly serves: (name: string) => boolean;
  readonly max: number;
  readonly nowMs: () => number;
}

interface Made {
  readonly pair: KeyAndCertificate;
  readonly context: SecureContext;
}

interface Kept {
  readonly made: Promise<Made>;
  renewMs: number;
}

const renewBeforeMs = 30 * 24 * 3_600_000;
/** One that could not be made is not tried again for each connection. */
const retryMs = 5_000;

export class Certificates {
  readonly #deps: CertificatesDeps;
  readonly #kept = new Map<string, Kept>();

  constructor(deps: CertificatesDeps) {
    this.#deps = deps;
  }

  /** The domain's, for clients that name none. */
  async ofDomain(): Promise<KeyAndCertificate> {
    const { domain } = this.#deps;
    return (await this.#keep(domain, [domain, `*.${domain}`])).pair;
  }

  /** Undefined for a name that is not served. */
  async contextFor(name: string): Promise<SecureContext | undefined> {
    const { domain, serves } = this.#deps;
    const lower = name.toLowerCase();
    const isOwn =
      lower === domain || (lower.endsWith(`.${domain}`) && !lower.slice(0, -domain.length - 1).includes("."));
    if (isOwn) return (await this.#keep(domain, [domain, `*.${domain}`])).context;
    return serves(lower) ? (await this.#keep(lower, [lower])).context : undefined;
  }

  #keep(key: string, names: readonly string[]): Promise<Made> {
    const { issue, max, nowMs } = this.#deps;
    const kept = this.#kept.get(key);
    if (kept !== undefined && kept.renewMs > nowMs()) return kept.made;
    const oldest = this.#kept.keys().next().value;
    if (oldest !== undefined && this.#kept.size >= max) this.#kept.delete(oldest);
    const entry: Kept = {
      renewMs: Number.POSITIVE_INFINITY,
      made: issue(names).then(
        (pair) => {
          entry.renewMs = pair.expiresMs - renewBeforeMs;
          const { key: privateKey, cert } = pair;
          return { pair, context: createSecureContext({ key: privateKey, cert, minVersion: "TLSv1.2" }) };
        },
        (error: unknown) => {
          entry.renewMs = nowMs() + retryMs;
          throw error;
        },
      ),
    };
    this.#kept.set(key, entry);
    return entry.made;
  }
}
