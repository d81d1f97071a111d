/**
 * Certificates by name. Those of the domain and of all names below it are this host's own; a custom domain has what
 * its facts say (domain-certificates.ts). A name that is not served has none, and its client learns nothing but that.
 */
import type { SecureContext } from "node:tls";
import type { DomainCertificate } from "./domain-certificates.ts";
import { contextOf, KeptCertificate, type Made } from "./kept-certificate.ts";
import type { KeyAndCertificate } from "./local-ca.ts";

export interface CertificatesDeps {
  readonly domain: string;
  readonly issue: (names: readonly string[]) => Promise<KeyAndCertificate>;
  /** Of a custom domain; undefined when it is nobody's. */
  readonly ofCustom?: (name: string) => DomainCertificate | undefined;
  readonly nowMs: () => number;
}

/** known: there is one, or one can be made. missing: the name is served and has none. unknown: it is not served. */
export type NameState = "known" | "missing" | "unknown";

/** What is opened and parsed already; each is some ten kilobytes. */
const maxOpened = 1_000;

export class Certificates {
  readonly #deps: CertificatesDeps;
  readonly #domain: KeptCertificate;
  readonly #local = new Map<string, KeptCertificate>();
  readonly #opened = new Map<string, Made>();

  constructor(deps: CertificatesDeps) {
    this.#deps = deps;
    const { domain, issue, nowMs } = deps;
    this.#domain = new KeptCertificate(() => issue([domain, `*.${domain}`]), nowMs);
  }

  /** For clients that name none. */
  async ofDomain(): Promise<KeyAndCertificate> {
    return (await this.#domain.current()).pair;
  }

  stateOf(name: string): NameState {
    const lower = name.toLowerCase();
    const kind = this.#deps.ofCustom?.(lower)?.kind;
    // The domain's own covers a name of it that has another wish.
    if (kind === undefined || kind === "missing") return this.#isOwn(lower) ? "known" : (kind ?? "unknown");
    return "known";
  }

  /** Undefined for a name that is not served, or that has none. */
  async contextFor(name: string): Promise<SecureContext | undefined> {
    const lower = name.toLowerCase();
    const custom = this.#deps.ofCustom?.(lower);
    if (custom?.kind === "own") return this.#open(lower, custom.pair);
    if (this.#isOwn(lower)) return (await this.#domain.current()).context;
    if (custom?.kind !== "local") return undefined;
    return (await this.#localFor(lower).current()).context;
  }

  #isOwn(name: string): boolean {
    const { domain } = this.#deps;
    return (
      name === domain || (name.endsWith(`.${domain}`) && !name.slice(0, -domain.length - 1).includes("."))
    );
  }

  #open(name: string, pair: KeyAndCertificate): SecureContext {
    const kept = this.#opened.get(name);
    if (kept?.pair.cert === pair.cert && kept.pair.key === pair.key) return kept.context;
    const made = contextOf(pair);
    this.#opened.delete(name);
    bound(this.#opened);
    this.#opened.set(name, made);
    return made.context;
  }

  #localFor(name: string): KeptCertificate {
    const kept = this.#local.get(name);
    if (kept !== undefined) return kept;
    const { issue, nowMs } = this.#deps;
    bound(this.#local);
    const made = new KeptCertificate(() => issue([name]), nowMs);
    this.#local.set(name, made);
    return made;
  }
}

/** The one that came first goes. */
function bound(map: Map<string, unknown>): void {
  const [first] = map.size >= maxOpened ? map.keys() : [];
  if (first !== undefined) map.delete(first);
}
