/**
 * What the cluster knows of tokens. A token itself is never stored, nor its id: only the hash of the id, so that who
 * reads cluster state can name a token and take it back, and cannot use it.
 */
export const tokenVerbs = ["read", "logs", "exec", "deploy", "nodes", "tokens"] as const;
export type TokenVerb = (typeof tokenVerbs)[number];

/** What a token permits: its verbs, on what satisfies every restriction that is there. */
export interface TokenScope {
  readonly verbs: readonly TokenVerb[];
  readonly org?: string;
  readonly apps?: readonly string[];
  readonly machines?: readonly string[];
}

/** Owned by the API, under `token.<sha256 of the id>`; kept for a day beyond the token's end. */
export interface TokenFact {
  readonly label: string;
  readonly scope: TokenScope;
  readonly created_at_ms: number;
  readonly expires_at_ms: number;
  /** Hashes of the ids of the tokens that it was issued from, the oldest first; revoking any of them revokes it. */
  readonly chain: readonly string[];
  /** The short id of the token that it was issued from, or `operator`. */
  readonly issuer: string;
  /** The key that signed it. */
  readonly kid: string;
  readonly revoked_at_ms?: number;
  /** The short id of the token that revoked it, or `operator`. */
  readonly revoked_by?: string;
}

/** Owned by the API process of one host, under `signing-key.<kid>`. The private half never leaves the host. */
export interface SigningKeyFact {
  readonly kid: string;
  readonly node_id: string;
  /** The 32 bytes of an Ed25519 public key, base64url, as `x` in RFC 8037. */
  readonly x: string;
}

/** Owned by the API process of one host, under `admin-token.<node>`. */
export interface AdminTokenFact {
  readonly node_id: string;
  /** Hex, of the whole token. */
  readonly sha256: string;
  readonly changed_at_ms: number;
}
