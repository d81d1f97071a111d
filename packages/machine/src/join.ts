/**
 * How a host becomes part of a region: the token that an operator carries to it, what the host sends, and what it is
 * answered. The token says where the API is and proves that the host was invited; it grants nothing after its use.
 */

import { HearthError } from "@hearth/errors";
import Type from "typebox";
import Value from "typebox/value";

const closed = { additionalProperties: false } as const;
const url = Type.String({ pattern: "^https?://", maxLength: 256 });
const roles = Type.Array(Type.Enum(["worker", "api", "bus"]), { minItems: 1, maxItems: 3 });

const JoinToken = Type.Object(
  {
    api_urls: Type.Array(url, { minItems: 1, maxItems: 16 }),
    secret: Type.String({ pattern: "^[A-Za-z0-9_-]{43}$" }),
    region: Type.String({ pattern: "^[a-z0-9-]{1,32}$" }),
    roles,
  },
  closed,
);
export type JoinToken = Type.Static<typeof JoinToken>;

const port = Type.Integer({ minimum: 1, maximum: 65_535 });
const nkey = (prefix: string) => Type.String({ pattern: `^${prefix}[A-Z2-7]{55}$` });

export const JoinRequest = Type.Object(
  {
    secret: Type.String({ minLength: 1, maxLength: 128 }),
    node_id: Type.String({ pattern: "^[a-z0-9]{1,32}$" }),
    node_key: nkey("U"),
    api_key: Type.Optional(nkey("U")),
    seal_key: Type.Optional(nkey("X")),
    version: Type.String({ maxLength: 64 }),
    /** Its clock, in milliseconds, as it sent this. */
    now_ms: Type.Integer(),
    /** Where the other hosts reach it; the address that it calls from when absent. */
    address: Type.Optional(Type.String({ maxLength: 64 })),
    api_port: Type.Optional(port),
    bus_port: Type.Optional(port),
    route_port: Type.Optional(port),
  },
  closed,
);
export type JoinRequest = Type.Static<typeof JoinRequest>;

export const JoinAnswer = Type.Object({
  region: Type.String(),
  prefix: Type.String(),
  host_number: Type.Integer(),
  roles,
  address: Type.String(),
  bus_servers: Type.Array(Type.String()),
  api_urls: Type.Array(Type.String()),
});
export type JoinAnswer = Type.Static<typeof JoinAnswer>;

const tokenPrefix = "hearth-join-";

export const formatJoinToken = (token: JoinToken): string =>
  tokenPrefix + Buffer.from(JSON.stringify(token)).toString("base64url");

/** @throws HearthError `join_token_invalid` for what is no token, or only a part of one */
export function parseJoinToken(text: string): JoinToken {
  const token = text.startsWith(tokenPrefix) ? parseJson(text.slice(tokenPrefix.length)) : undefined;
  if (Value.Check(JoinToken, token)) return token;
  throw new HearthError("join_token_invalid", {
    message: "This is not a join token, or only a part of one; copy all of what `hearth token node` printed.",
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(Buffer.from(text, "base64url").toString("utf8"));
  } catch {
    return undefined;
  }
}
