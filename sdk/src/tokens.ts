import type { TokenVerb } from "@hearth/machine";
import type { Transport } from "./transport.ts";

export type TokenLevel = "read-only" | "exec" | "deploy" | "admin";

/** What is absent is as in the token in use. */
export interface CreateToken {
  readonly label?: string | undefined;
  readonly level?: TokenLevel | undefined;
  readonly verbs?: readonly TokenVerb[] | undefined;
  readonly org?: string | undefined;
  readonly apps?: readonly string[] | undefined;
  readonly machines?: readonly string[] | undefined;
  /** Seconds. */
  readonly expires_in?: number | undefined;
}

export interface TokenScopeAnswer {
  readonly label: string;
  readonly verbs: readonly TokenVerb[];
  readonly level?: TokenLevel;
  readonly org?: string;
  readonly apps?: readonly string[];
  readonly machines?: readonly string[];
}

export interface ApiToken extends TokenScopeAnswer {
  /** Names the token; it cannot be used as one. */
  readonly id: string;
  readonly created_at: string;
  readonly expires_at: string;
  readonly issuer: string;
  readonly revoked_at?: string;
  readonly revoked_by?: string;
}

export interface CurrentToken extends TokenScopeAnswer {
  readonly token_id: string;
  readonly kind: "operator" | "token";
  /** Absent: it does not end. */
  readonly expires_at?: string;
}

const path = "/v1/tokens";

export class Tokens {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** The token itself is in this answer and nowhere else. @throws HearthError `permission_denied` when it is wider */
  create(token: CreateToken, signal?: AbortSignal): Promise<ApiToken & { readonly token: string }> {
    return this.#transport.json({ method: "POST", path, json: token, signal });
  }

  async *list(signal?: AbortSignal): AsyncGenerator<ApiToken> {
    for (let cursor: string | undefined; ; ) {
      const page: { tokens: ApiToken[]; next_cursor: string } = await this.#transport.json({
        method: "GET",
        path,
        query: { cursor },
        signal,
      });
      yield* page.tokens;
      if (page.next_cursor === "") return;
      cursor = page.next_cursor;
    }
  }

  /** Also all that was issued from it. @throws HearthError `not_found` */
  revoke(id: string, signal?: AbortSignal): Promise<ApiToken> {
    return this.#transport.json({ method: "DELETE", path: `${path}/${encodeURIComponent(id)}`, signal });
  }

  /** What the token in use may do; several where several are sent. */
  async current(signal?: AbortSignal): Promise<CurrentToken[]> {
    const answer: { tokens: CurrentToken[] } = await this.#transport.json({
      method: "GET",
      path: `${path}/current`,
      signal,
    });
    return answer.tokens;
  }

  /** Only the operator's token replaces itself. @param sha256 of the new one, in hex */
  replaceAdmin(sha256: string, signal?: AbortSignal): Promise<{ readonly node_id: string }> {
    return this.#transport.json({ method: "PUT", path: `${path}/admin`, json: { sha256 }, signal });
  }
}
