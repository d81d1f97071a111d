/**
 * Who calls. Existing clients say `Bearer x` or `FlyV1 x`; x is the operator's token, which may hold commas and is
 * taken as it stands, or else signed tokens with commas between them. Of several, those that are good count.
 */
import { HearthError } from "@hearth/errors";
import { Caller, type Credential } from "./caller.ts";
import type { OperatorTokens } from "./operator-tokens.ts";
import { refused, type TokenVerifier } from "./token-verify.ts";

const scheme = /^(?:bearer|flyv1)[ \t]+(\S.*)$/i;
export const maxTokensARequest = 8;
const maxHeaderBytes = 16 * 1024;

export class Authenticator {
  readonly #operators: OperatorTokens;
  readonly #verifier: TokenVerifier;

  constructor(operators: OperatorTokens, verifier: TokenVerifier) {
    this.#operators = operators;
    this.#verifier = verifier;
  }

  /** @throws HearthError `unauthenticated`; where no token is good, with the reason of the first */
  async authenticate(authorization: string | undefined): Promise<Caller> {
    const text = scheme.exec(authorization?.trim() ?? "")?.[1];
    if (text === undefined) throw refused(authorization?.trim() ? "malformed" : "missing");
    if (text.length > maxHeaderBytes) throw refused("malformed");
    const operator = this.#operators.find(text);
    if (operator !== undefined) return new Caller([operator]);
    const tokens = text
      .split(",")
      .map((each) => each.trim().replace(/^flyv1[ \t]+/i, ""))
      .filter((each) => each !== "");
    if (tokens.length === 0 || tokens.length > maxTokensARequest) throw refused("malformed");
    const settled = await Promise.allSettled(tokens.map((each) => this.#credential(each)));
    const good = settled.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
    if (good.length > 0) return new Caller(good);
    throw HearthError.from((settled[0] as PromiseRejectedResult).reason);
  }

  /** The same caller with what is still good of its credentials. @throws as `authenticate`, when nothing is */
  renew(caller: Caller): Caller {
    const problems = caller.credentials.map((each) => this.#problem(each));
    const good = caller.credentials.filter((_, index) => problems[index] === undefined);
    if (good.length === caller.credentials.length) return caller;
    if (good.length > 0) return new Caller(good);
    throw refused(problems[0] ?? "unknown");
  }

  #problem(credential: Credential) {
    if (credential.kind === "token") return this.#verifier.problem(credential);
    return this.#operators.isValid(credential) ? undefined : ("revoked" as const);
  }

  async #credential(token: string): Promise<Credential> {
    return this.#operators.find(token) ?? (await this.#verifier.verify(token));
  }
}
