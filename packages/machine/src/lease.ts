/**
 * The lease of a machine: whoever holds its nonce may change the machine, and nobody else. Pure: the worker keeps
 * the lease in its row and asks here what it allows. An expired lease gates nothing and cannot be refreshed, because
 * others may have changed the machine since; its holder has to acquire it anew, and look.
 */
import { HearthError } from "@hearth/errors";
import type { InstanceId } from "./ids.ts";

export interface Lease {
  readonly nonce: string;
  readonly expiresAtMs: number;
  /** For people, in the texts of refusals. Absent when nobody gave a name. */
  readonly owner?: string;
  readonly description?: string;
  /** What the machine was when the lease was made or refreshed. */
  readonly version?: InstanceId;
  /** The instance that was made together with it, so that a repeated request is answered with its nonce. */
  readonly madeWith?: InstanceId;
}

/** As clients of the Machines API read it. */
export interface LeaseData {
  /** Only in the answer that made or refreshed the lease. */
  readonly nonce?: string;
  /** Seconds since 1970. */
  readonly expires_at: number;
  readonly owner: string;
  readonly description: string;
  readonly version: string;
}

export interface LeaseWish {
  readonly ttlMs: number;
  /** Of the lease that the caller holds and wants to keep. */
  readonly nonce?: string | undefined;
  readonly owner?: string | undefined;
  readonly description?: string | undefined;
}

export interface LeaseMoment {
  readonly machineId: string;
  readonly version: InstanceId;
  readonly nowMs: number;
  readonly newNonce: () => string;
}

const unnamedOwner = "a holder without a name";

export function liveLease(lease: Lease | null, nowMs: number): Lease | undefined {
  return lease !== null && lease.expiresAtMs > nowMs ? lease : undefined;
}

/** @throws HearthError `lease_held` unless the machine has no live lease or `nonce` is that of it */
export function checkLease(
  machineId: string,
  lease: Lease | null,
  nonce: string | undefined,
  nowMs: number,
): void {
  const held = liveLease(lease, nowMs);
  if (held === undefined || held.nonce === nonce) return;
  const { owner = unnamedOwner, expiresAtMs } = held;
  // Clients match on these words, and read the time at their end.
  throw new HearthError("lease_held", {
    message: `machine ID ${machineId} lease currently held by ${owner}, expires at ${new Date(expiresAtMs).toISOString()}`,
    details: { owner, lease_expires_at_ms: expiresAtMs },
  });
}

/** @throws HearthError `lease_not_found` with the words that clients match on */
export function needLease(lease: Lease | null, nowMs: number): Lease {
  const held = liveLease(lease, nowMs);
  if (held !== undefined) return held;
  throw new HearthError("lease_not_found", { message: "lease not found" });
}

/**
 * A new lease, or the one that the caller's nonce names, extended. A nonce of no live lease is refused: its holder
 * believes that nobody else could change the machine meanwhile, and that is not so.
 * @throws HearthError `lease_held`, `lease_not_found`
 */
export function grantLease(
  lease: Lease | null,
  wish: LeaseWish,
  { machineId, version, nowMs, newNonce }: LeaseMoment,
): Lease {
  checkLease(machineId, lease, wish.nonce, nowMs);
  const expiresAtMs = nowMs + wish.ttlMs;
  const told = {
    ...(wish.owner === undefined ? {} : { owner: wish.owner }),
    ...(wish.description === undefined ? {} : { description: wish.description }),
  };
  if (wish.nonce === undefined) return { nonce: newNonce(), expiresAtMs, version, ...told };
  return { ...needLease(lease, nowMs), expiresAtMs, version, ...told };
}

export function leaseData(lease: Lease, options: { readonly withNonce: boolean }): LeaseData {
  const { nonce, expiresAtMs, owner = unnamedOwner, description = "", version = "" } = lease;
  // Rounded down: a holder that trusts it must not believe in a lease that is over.
  const data = { expires_at: Math.floor(expiresAtMs / 1000), owner, description, version };
  return options.withNonce ? { nonce, ...data } : data;
}
