/**
 * Idempotency keys of creates: a retried request gets the machine of the first, also from another API process.
 * A claim is a fact, taken by compare-and-set before anything is done, that names the machine which the
 * request will make. A create that failed for certain gives its claim back.
 */
import { createHash } from "node:crypto";
import type { FactStore } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { factPrefixes, type MachineId } from "@hearth/machine";
import type { ClusterView } from "../state/cluster-view.ts";
import { writeFact } from "../state/write-fact.ts";

const keptMs = 24 * 3600_000;

interface ClaimFact {
  readonly request_hash: string;
  readonly machine_id: MachineId;
  readonly taken_at_ms: number;
}

export interface Claim {
  readonly key: string;
  readonly revision: number;
  readonly machineId: MachineId;
  /** Another request has this key and is the one that makes the machine. */
  readonly isReplay: boolean;
}

export interface IdempotencyDeps {
  readonly view: ClusterView;
  readonly facts: () => FactStore;
  readonly nowMs: () => number;
}

/** @throws HearthError `conflict` when the key belongs to another request */
export async function claimKey(
  deps: IdempotencyDeps,
  request: { readonly app: string; readonly key: string; readonly body: unknown },
  machineId: MachineId,
): Promise<Claim> {
  const key = factPrefixes.idempotency + sha256(`${request.app}\0${request.key}`);
  const request_hash = sha256(JSON.stringify(request.body));
  const held = deps.view.replica.get(key);
  const fact = held?.value as ClaimFact | undefined;
  if (held !== undefined && fact !== undefined && !isOver(deps, key, fact)) {
    if (fact.request_hash !== request_hash) throw otherRequest();
    return { key, revision: held.revision, machineId: fact.machine_id, isReplay: true };
  }
  const value: ClaimFact = { request_hash, machine_id: machineId, taken_at_ms: deps.nowMs() };
  const revision = await writeFact(deps, { key, value, expectedRevision: held?.revision ?? 0 });
  return { key, revision, machineId, isReplay: false };
}

export async function releaseClaim(deps: IdempotencyDeps, claim: Claim): Promise<void> {
  const write = { key: claim.key, value: undefined, expectedRevision: claim.revision };
  await writeFact(deps, write).catch((thrown: unknown) => {
    if (HearthError.from(thrown).code !== "conflict") throw thrown;
  });
}

/** Forgets what no client retries any more. */
export async function sweepClaims(deps: IdempotencyDeps): Promise<void> {
  for (const { key, value, revision } of deps.view.replica.list(factPrefixes.idempotency)) {
    if (deps.nowMs() - (value as ClaimFact).taken_at_ms <= keptMs) continue;
    await releaseClaim(deps, { key, revision, machineId: (value as ClaimFact).machine_id, isReplay: false });
  }
}

/** A create whose machine nobody has heard of for long has failed with its process. */
function isOver({ view, nowMs }: IdempotencyDeps, key: string, fact: ClaimFact): boolean {
  if (nowMs() - fact.taken_at_ms > keptMs) return true;
  return view.findMachine(fact.machine_id) === undefined && !view.pending.isPending(key);
}

const otherRequest = (): HearthError =>
  new HearthError("conflict", {
    message: "This Idempotency-Key was used for another request; use a new key for a new request.",
    details: { field: "idempotency-key" },
  });

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
