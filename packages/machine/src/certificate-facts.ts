/**
 * Custom domains and their certificates, as a region knows them. All are the API's to write, by compare-and-set; front
 * doors read them. Private keys are sealed with the secret of `CertificateSecretFact`, each for its own place.
 *
 * Times are of the wall clock of whoever wrote them. Whether a holder is silent is judged by who hears it.
 */

/** The one app that a name belongs to. */
export interface HostnameFact {
  readonly hostname: string;
  readonly app: string;
  /** An app of the same name that is made later is another one. */
  readonly app_id: string;
  readonly org_slug: string;
  readonly created_at_ms: number;
  readonly updated_at_ms: number;
  /** A certificate is to be had by ACME, or from the authority of each host where the region has no ACME. */
  readonly acme_requested: boolean;
  /** Uploaded. */
  readonly custom?: StoredCertificate;
}

export interface StoredCertificate {
  /** PEM, the leaf first. */
  readonly chain: string;
  readonly sealed_key: string;
  readonly not_before_ms: number;
  readonly not_after_ms: number;
  readonly issuer: string;
  readonly serial: string;
  readonly key_type: "ecdsa" | "rsa";
  readonly created_at_ms: number;
}

/** What an authority wants to see where the name leads. Every front door shows it. */
export interface AcmeChallengeFact {
  readonly type: "http-01" | "tls-alpn-01";
  readonly url: string;
  readonly authorization_url: string;
  readonly token: string;
  readonly key_authorization: string;
  /** The certificate for `acme-tls/1`, with its key. */
  readonly proof?: { readonly cert: string; readonly sealed_key: string };
}

export interface AcmeOrderFact {
  readonly url: string;
  /** Of the certificate that is ordered: whoever takes the order over ends it with the same key. */
  readonly sealed_key: string;
  readonly challenge?: AcmeChallengeFact;
}

export interface AcmeFailureFact {
  /** The authority's type of problem, such as `unauthorized`, or a code of the error registry. */
  readonly code: string;
  /** The authority's own words. */
  readonly message: string;
  readonly at_ms: number;
}

/** All of one name's dealings with the authority. One key, so that who has lost the right to it can write nothing. */
export interface AcmeFact {
  readonly hostname: string;
  readonly directory: string;
  /** Grows each time somebody takes the order. */
  readonly term: number;
  /** Which process is at it; absent while nobody is. */
  readonly holder?: string | undefined;
  /** Grows while the holder is at work. */
  readonly beat: number;
  readonly order?: AcmeOrderFact | undefined;
  readonly certificate?: StoredCertificate;
  /** Orders begun in the last hour. */
  readonly attempts_ms: readonly number[];
  /** In a row. */
  readonly failed: number;
  readonly next_attempt_ms: number;
  readonly rate_limited_until_ms?: number | undefined;
  /** The newest last; none after a success. */
  readonly failures: readonly AcmeFailureFact[];
}

/** The account of a region at one authority. */
export interface AcmeAccountFact {
  readonly directory: string;
  readonly url: string;
  readonly sealed_key: string;
  readonly created_at_ms: number;
}

/** The secret that keys are sealed with, itself sealed for each host. */
export interface CertificateSecretFact {
  /** By node id. `by` is the public key of the host that sealed it. */
  readonly secrets: Readonly<Record<string, { readonly sealed: string; readonly by: string }>>;
}

/** What a sealed key is for. */
export const keyPurposes = {
  account: (directory: string) => `account ${directory}`,
  order: (hostname: string) => `order ${hostname}`,
  proof: (hostname: string) => `proof ${hostname}`,
  custom: (hostname: string) => `custom ${hostname}`,
} as const;

/** What the front door of a host is asked: whether it shows this already. */
export interface ChallengeQuestion {
  readonly hostname: string;
  readonly token: string;
}
export interface ChallengeAnswer {
  readonly shown: boolean;
}
