/**
 * Who may call: whoever holds an admin token. Existing clients say `Bearer x` or `FlyV1 x`, and what they
 * carry may contain commas, so the token is taken as it stands. Hashes are compared, so that the comparison
 * takes the same time whatever is presented.
 *
 * The token of the host that made the region is good at every API of it: its hash is in cluster state, written by the
 * first API that finds none. The token of another host is good at that host alone.
 */
import { timingSafeEqual } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { FactStore, Replica } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { type AdminTokenFact, factKeys } from "@hearth/machine";
import { hashToken } from "./config.ts";

const scheme = /^(?:bearer|flyv1)[ \t]+(\S.*)$/i;
const shareAgainMs = 1_000;

/** @throws HearthError `unauthenticated` */
export function authenticate(
  authorization: string | undefined,
  isAdminHash: (hash: Buffer) => boolean,
): void {
  const token = scheme.exec(authorization?.trim() ?? "")?.[1];
  if (token !== undefined && isAdminHash(hashToken(token))) return;
  throw new HearthError("unauthenticated", {
    message:
      token === undefined
        ? "Authenticate: the request has no token; send `Authorization: Bearer <token>`."
        : "Authenticate: token validation error; send the token that `hearth up` made.",
  });
}

export function adminHashes(replica: Pick<Replica, "get">, own: Buffer): (hash: Buffer) => boolean {
  return (hash) => {
    const fact = replica.get(factKeys.adminToken())?.value as AdminTokenFact | undefined;
    const first = Buffer.from(fact?.sha256 ?? "", "hex");
    return timingSafeEqual(hash, own) || (first.length === hash.length && timingSafeEqual(hash, first));
  };
}

/** Resolves when the region has an admin token: this host's, if it had none. */
export async function shareAdminToken(
  facts: Pick<FactStore, "compareAndSet">,
  own: Buffer,
  signal: AbortSignal,
): Promise<void> {
  const fact: AdminTokenFact = { sha256: own.toString("hex") };
  while (!signal.aborted) {
    try {
      await facts.compareAndSet(factKeys.adminToken(), fact, 0);
      return;
    } catch (thrown) {
      const { code, retryable } = HearthError.from(thrown);
      if (code === "conflict") return;
      if (!retryable) throw thrown;
    }
    await delay(shareAgainMs, undefined, { signal }).catch(() => undefined);
  }
}
