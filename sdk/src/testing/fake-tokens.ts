/** Tokens of the fake API: they are issued, listed and revoked, and none of them is good for a call. */
import { randomBytes } from "node:crypto";
import { HearthError } from "@hearth/errors";
import type { ApiToken, CreateToken } from "../tokens.ts";
import type { FakeState } from "./fake-api.ts";

const kept = new WeakMap<FakeState, ApiToken[]>();
const tokensOf = (state: FakeState): ApiToken[] => {
  const tokens = kept.get(state) ?? [];
  kept.set(state, tokens);
  return tokens;
};

export function createFakeToken(state: FakeState, wanted: CreateToken): object {
  const { level = "read-only", label = "", org, apps, machines, expires_in = 86_400 } = wanted;
  if (org === "other") throw new HearthError("permission_denied", { message: "wider: org other." });
  const nowMs = Date.now();
  const token: ApiToken = {
    ...{ id: randomBytes(8).toString("hex"), label, level, verbs: ["read"], issuer: "operator" },
    created_at: new Date(nowMs).toISOString(),
    expires_at: new Date(nowMs + expires_in * 1000).toISOString(),
    ...(org === undefined ? {} : { org }),
    ...(apps === undefined ? {} : { apps }),
    ...(machines === undefined ? {} : { machines }),
  };
  tokensOf(state).push(token);
  return { ...token, token: "header.claims.signature" };
}

/** One a page, so that clients are seen to turn them. */
export function listFakeTokens(state: FakeState, cursor: string | null): object {
  const tokens = tokensOf(state);
  const at = tokens.findIndex(({ id }) => id === cursor) + 1;
  return { tokens: tokens.slice(at, at + 1), next_cursor: at + 1 < tokens.length ? tokens[at]?.id : "" };
}

export function revokeFakeToken(state: FakeState, id: string): object {
  const tokens = tokensOf(state);
  const at = tokens.findIndex((token) => token.id === id);
  const token = tokens[at];
  if (token === undefined) throw new HearthError("not_found", { message: `There is no token ${id}.` });
  const revoked = { ...token, revoked_at: new Date().toISOString(), revoked_by: "operator" };
  tokens[at] = revoked;
  return revoked;
}

export const currentFakeToken = (): object => ({
  tokens: [{ token_id: "operator", kind: "operator", label: "", verbs: ["read"], level: "admin" }],
});
