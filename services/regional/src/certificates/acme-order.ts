/**
 * One order, from what is known of it to a certificate. Every step looks first at what the authority says has happened,
 * and what must outlive this process is in the fact before the authority is told, so that another process goes on from
 * wherever this one ended: the order's URL, the key of the certificate, and what the front doors show.
 */
import { setTimeout as delay } from "node:timers/promises";
import {
  type AccountKey,
  type AcmeClient,
  type AcmeOrder,
  type ChallengeType,
  challengeCertificate,
  challengeTypes,
  checkChain,
  isChallengeType,
  keyAuthorization,
  newPrivateKey,
  openSealed,
  sealWith,
  signingRequest,
} from "@hearth/acme";
import { HearthError } from "@hearth/errors";
import { type AcmeChallengeFact, keyPurposes, type StoredCertificate } from "@hearth/machine";
import type { AcmeHold } from "./acme-hold.ts";

export interface OrderDeps {
  readonly client: AcmeClient;
  readonly accountKey: AccountKey;
  readonly secret: string;
  readonly hold: AcmeHold;
  /** Tried first; the others after it, one at each attempt. */
  readonly challenge: ChallengeType;
  /** Resolves when every front door that answers shows it. */
  readonly shown: (hostname: string, token: string, signal: AbortSignal) => Promise<void>;
  readonly nowMs: () => number;
  readonly signal: AbortSignal;
  readonly pollMs: number;
}

/** Of an authority that is asked again and again. */
const settleLimitMs = 90_000;
const longestPollMs = 10_000;

/** @throws HearthError what the authority refuses with, `unavailable`, `conflict` when the right to it is lost */
export async function runOrder(deps: OrderDeps): Promise<StoredCertificate> {
  let order = await findOrder(deps);
  if (order.status === "pending") {
    for (const url of order.authorizations) await authorize(deps, url);
    order = await settled(deps, () => deps.client.order(order.url, deps.signal), "pending");
  }
  if (order.status === "ready") order = await finish(deps, order);
  if (order.status === "processing")
    order = await settled(deps, () => deps.client.order(order.url, deps.signal), "processing");
  if (order.status !== "valid" || order.certificate === undefined) throw refusedOrder(order);
  const chain = await deps.client.certificate(order.certificate, deps.signal);
  return stored(deps, chain);
}

async function findOrder({ client, hold, secret, signal }: OrderDeps): Promise<AcmeOrder> {
  const { hostname, order: known } = hold.fact;
  if (
    known !== undefined &&
    openSealed(secret, keyPurposes.order(hostname), known.sealed_key) !== undefined
  ) {
    const order = await client.order(known.url, signal).catch((error: unknown) => {
      // An order that is over may be forgotten by the authority.
      if (HearthError.from(error).code === "acme_refused") return undefined;
      throw error;
    });
    if (order !== undefined && order.status !== "invalid") return order;
  }
  const order = await client.newOrder(hostname, signal);
  const sealed_key = sealWith(secret, keyPurposes.order(hostname), newPrivateKey());
  await hold.write(() => ({ order: { url: order.url, sealed_key } }));
  return order;
}

async function authorize(deps: OrderDeps, url: string): Promise<void> {
  const { client, hold, signal } = deps;
  const before = await client.authorization(url, signal);
  if (before.status === "valid") return;
  const offered = before.challenges.filter(({ type, token }) => isChallengeType(type) && token !== "");
  const order = [deps.challenge, ...challengeTypes.filter((each) => each !== deps.challenge)];
  const wanted = order[hold.fact.failed % order.length];
  const chosen = offered.find(({ type }) => type === wanted) ?? offered[0];
  if (chosen === undefined)
    throw new HearthError("acme_refused", {
      message: "The certificate authority offers neither HTTP-01 nor TLS-ALPN-01 for this name.",
      details: { type: "unsupported", detail: "It offers neither HTTP-01 nor TLS-ALPN-01 for this name." },
    });
  // Told already by a process that is no more: then its proof is still shown, and the authority is looking.
  if (chosen.status === "pending") {
    await show(deps, url, chosen as typeof chosen & { readonly type: ChallengeType });
    await client.respond(chosen.url, signal);
  }
  const after = await settled(deps, () => client.authorization(url, signal), "pending");
  if (after.status === "valid") return;
  throw (
    after.challenges.find(({ error }) => error !== undefined)?.error ??
    new HearthError("acme_refused", {
      message: `The certificate authority did not accept the name: it is ${after.status}.`,
      details: { type: after.status, detail: `The authorization is ${after.status}.` },
    })
  );
}

async function show(
  deps: OrderDeps,
  authorization_url: string,
  { type, url, token }: { readonly type: ChallengeType; readonly url: string; readonly token: string },
): Promise<void> {
  const { hold, accountKey, secret, nowMs, signal } = deps;
  const { hostname } = hold.fact;
  const key_authorization = keyAuthorization(token, accountKey);
  const challenge: AcmeChallengeFact = { type, url, authorization_url, token, key_authorization };
  const key = type === "tls-alpn-01" ? newPrivateKey() : undefined;
  const proof =
    key === undefined
      ? undefined
      : {
          cert: challengeCertificate({ hostname, keyAuthorization: key_authorization }, key, nowMs()),
          sealed_key: sealWith(secret, keyPurposes.proof(hostname), key),
        };
  await hold.write(({ order }) => {
    if (order === undefined) throw new HearthError("internal");
    return { order: { ...order, challenge: proof === undefined ? challenge : { ...challenge, proof } } };
  });
  await deps.shown(hostname, token, signal);
}

function finish({ client, hold, secret, signal }: OrderDeps, order: AcmeOrder): Promise<AcmeOrder> {
  return client.finalize(order, signingRequest(hold.fact.hostname, keyOf(hold, secret)), signal);
}

function keyOf({ fact: { hostname, order } }: AcmeHold, secret: string): string {
  const key = openSealed(secret, keyPurposes.order(hostname), order?.sealed_key ?? "");
  if (key === undefined)
    throw new HearthError("internal", { message: "The key of the certificate cannot be opened." });
  return key;
}

function stored({ hold, secret, nowMs }: OrderDeps, fullchain: string): StoredCertificate {
  const { hostname, order } = hold.fact;
  const checked = checkChain({ hostname, fullchain, privateKey: keyOf(hold, secret) }, nowMs());
  return { ...checked, sealed_key: order?.sealed_key ?? "", created_at_ms: nowMs() };
}

/** Looks until it is something else than this, when the authority wants to be asked again. */
async function settled<T extends { readonly status: string; readonly retryAfterMs?: number }>(
  { signal, pollMs }: OrderDeps,
  look: () => Promise<T>,
  whileStatus: string,
): Promise<T> {
  const deadlineMs = performance.now() + settleLimitMs;
  for (let waitMs = pollMs; ; waitMs = Math.min(longestPollMs, waitMs * 2)) {
    const seen = await look();
    if (seen.status !== whileStatus) return seen;
    if (performance.now() > deadlineMs)
      throw new HearthError("deadline_exceeded", {
        message: `The certificate authority has not decided within ${settleLimitMs / 1000} s.`,
      });
    await delay(Math.min(seen.retryAfterMs ?? waitMs, longestPollMs), undefined, { signal });
  }
}

const refusedOrder = (order: AcmeOrder): HearthError =>
  order.error ??
  new HearthError("acme_refused", {
    message: `The certificate authority did not issue it: the order is ${order.status}.`,
    details: { type: order.status, detail: `The order is ${order.status}.` },
  });
