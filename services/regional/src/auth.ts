/**
 * Who may call: whoever holds the admin token. Existing clients say `Bearer x` or `FlyV1 x`, and what they
 * carry may contain commas, so the token is taken as it stands. Hashes are compared, so that the comparison
 * takes the same time whatever is presented.
 */
import { timingSafeEqual } from "node:crypto";
import { HearthError } from "@hearth/errors";
import { hashToken } from "./config.ts";

const scheme = /^(?:bearer|flyv1)[ \t]+(\S.*)$/i;

/** @throws HearthError `unauthenticated` */
export function authenticate(authorization: string | undefined, tokenHash: Buffer): void {
  const token = scheme.exec(authorization?.trim() ?? "")?.[1];
  if (token !== undefined && timingSafeEqual(hashToken(token), tokenHash)) return;
  throw new HearthError("unauthenticated", {
    message:
      token === undefined
        ? "Authenticate: the request has no token; send `Authorization: Bearer <token>`."
        : "Authenticate: token validation error; send the token that `hearth up` made.",
  });
}
