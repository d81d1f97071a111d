import type { Transport } from "./transport.ts";

export type CertificateStatus = "active" | "pending_validation" | "pending_ownership";

export interface CertificateSummary {
  readonly hostname: string;
  readonly status: CertificateStatus;
  readonly configured: boolean;
  readonly acme_requested: boolean;
  readonly has_custom_certificate: boolean;
  readonly has_fly_certificate: boolean;
  readonly created_at: string;
  readonly updated_at: string;
}

export interface CertificateDetail {
  readonly hostname: string;
  readonly status: CertificateStatus;
  readonly configured: boolean;
  readonly acme_requested: boolean;
  readonly rate_limited_until?: string;
  readonly next_attempt_at?: string;
  readonly attempts_last_hour: number;
  readonly certificates: readonly {
    /** fly: issued by ACME; custom: uploaded; local: each host's own. */
    readonly source: string;
    /** active, expired or pending. */
    readonly status: string;
    readonly expires_at?: string;
    readonly issuer?: string;
  }[];
  readonly validation: {
    readonly dns_configured: boolean;
    readonly http_configured: boolean;
    readonly alpn_configured: boolean;
    readonly ownership_txt_configured: boolean;
  };
  readonly dns_requirements: {
    readonly a: readonly string[];
    readonly aaaa: readonly string[];
    readonly cname: string;
  };
  /** Of a check. */
  readonly dns_records?: {
    readonly a: readonly string[];
    readonly aaaa: readonly string[];
    readonly cname: readonly string[];
  };
  readonly validation_errors: readonly {
    readonly code: string;
    /** The authority's own words. */
    readonly message: string;
    readonly remediation: string;
    readonly timestamp: string;
  }[];
}

/** Custom domains of one app, and their certificates. */
export class Certificates {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  async list(app: string, signal?: AbortSignal): Promise<CertificateSummary[]> {
    const all: CertificateSummary[] = [];
    for (let cursor: string | undefined = ""; cursor !== undefined; ) {
      const query = { limit: "500", ...(cursor === "" ? {} : { cursor }) };
      const page: { readonly certificates: CertificateSummary[]; readonly next_cursor?: string } =
        await this.#transport.json({ method: "GET", path: pathOf(app), query, signal });
      all.push(...page.certificates);
      cursor = page.next_cursor;
    }
    return all;
  }

  /** @throws HearthError `hostname_taken`, `hostname_invalid` */
  add(app: string, hostname: string, signal?: AbortSignal): Promise<CertificateDetail> {
    return this.#transport.json({ method: "POST", path: `${pathOf(app)}/acme`, json: { hostname }, signal });
  }

  /** @throws HearthError `hostname_taken`, `hostname_invalid`, `certificate_invalid` */
  import(
    app: string,
    upload: { readonly hostname: string; readonly fullchain: string; readonly private_key: string },
    signal?: AbortSignal,
  ): Promise<CertificateDetail> {
    return this.#transport.json({ method: "POST", path: `${pathOf(app)}/custom`, json: upload, signal });
  }

  /** @throws HearthError `hostname_not_found`, as those below */
  get(app: string, hostname: string, signal?: AbortSignal): Promise<CertificateDetail> {
    return this.#transport.json({ method: "GET", path: pathOf(app, hostname), signal });
  }

  /** Looks the name up now. */
  check(app: string, hostname: string, signal?: AbortSignal): Promise<CertificateDetail> {
    return this.#transport.json({ method: "POST", path: `${pathOf(app, hostname)}/check`, signal });
  }

  /** Removes the name, or only what is issued or uploaded. */
  async remove(app: string, hostname: string, only?: "acme" | "custom", signal?: AbortSignal): Promise<void> {
    const path = `${pathOf(app, hostname)}${only === undefined ? "" : `/${only}`}`;
    await this.#transport.json({ method: "DELETE", path, signal });
  }
}

const pathOf = (app: string, hostname?: string): string => {
  const all = `/v1/apps/${encodeURIComponent(app)}/certificates`;
  return hostname === undefined ? all : `${all}/${encodeURIComponent(hostname)}`;
};
