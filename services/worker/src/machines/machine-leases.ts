/**
 * The leases of machines, as commands. A lease is on the disk when it is answered, and is no fact for others: the
 * worker that would act is the one that judges it, so nobody else needs to know.
 */
import { HearthError } from "@hearth/errors";
import {
  grantLease,
  type InstanceId,
  type Lease,
  type LeaseData,
  leaseData,
  liveLease,
  type MachineAnswer,
  needLease,
  type WorkerRequest,
} from "@hearth/machine";
import type { MachineRow } from "./machine-row.ts";
import type { MachineStore } from "./machine-store.ts";

export interface MachineLeasesDeps {
  readonly store: MachineStore;
  readonly nowMs: () => number;
  readonly newNonce: () => string;
  /** @throws HearthError for a lease that the caller does not hold */
  readonly check: (row: MachineRow, nonce: string | undefined) => void;
}

export class MachineLeases {
  readonly #deps: MachineLeasesDeps;

  constructor(deps: MachineLeasesDeps) {
    this.#deps = deps;
  }

  /** @throws HearthError `lease_not_found`, `machine_not_found` */
  find({ machine_id }: WorkerRequest<"lease-get">): LeaseData {
    const { store, nowMs } = this.#deps;
    return leaseData(needLease(store.get(machine_id).lease, nowMs()), { withNonce: false });
  }

  /** @throws HearthError `lease_held`, `lease_not_found` for a refresh, `machine_not_found` */
  acquire({ machine_id, nonce, ttl_ms, owner, description }: WorkerRequest<"lease-acquire">): LeaseData {
    const { store, nowMs, newNonce } = this.#deps;
    const { lease } = store.keep(machine_id, (row) => {
      const moment = { machineId: machine_id, version: row.instanceId, nowMs: nowMs(), newNonce };
      const wish = { ttlMs: ttl_ms, nonce, owner, description };
      return { lease: grantLease(existing(row).lease, wish, moment) };
    });
    return leaseData(needLease(lease, Number.NEGATIVE_INFINITY), { withNonce: true });
  }

  /** @throws HearthError `lease_held`, `lease_not_found`, `machine_not_found` */
  release({ machine_id, nonce }: WorkerRequest<"lease-release">): { readonly ok: true } {
    const { store, nowMs, check } = this.#deps;
    store.keep(machine_id, (row) => {
      check(row, nonce);
      needLease(row.lease, nowMs());
      return { lease: null };
    });
    return { ok: true };
  }

  /** The lease that comes with a create or an update: a new one, or the caller's own, extended. */
  with(
    known: Pick<MachineRow, "machineId" | "lease">,
    instanceId: InstanceId,
    { ttlMs, nonce }: { readonly ttlMs: number | undefined; readonly nonce?: string | undefined },
  ): Lease | null {
    if (ttlMs === undefined || ttlMs === 0) return known.lease;
    const { nowMs, newNonce } = this.#deps;
    const held = liveLease(known.lease, nowMs());
    const moment = { machineId: known.machineId, version: instanceId, nowMs: nowMs(), newNonce };
    // A nonce that is left over from a lease that is gone asks for a new one: the caller gets that with the answer.
    const wish = { ttlMs, nonce: held === undefined ? undefined : nonce };
    return { ...grantLease(held ?? null, wish, moment), madeWith: instanceId };
  }
}

/**
 * A repeated create or update is answered as the first was, so also with its nonce; but never with that of somebody
 * who has acquired the machine since.
 */
export function withNonce(
  answer: MachineAnswer,
  { lease, instanceId }: MachineRow,
  asked: number | undefined,
): MachineAnswer {
  if (asked === undefined || lease === null || lease.madeWith !== instanceId) return answer;
  return { ...answer, record: { ...answer.record, nonce: lease.nonce } };
}

/** Of a machine that is gone, only the story is left. @throws HearthError `machine_not_found` */
export function existing(row: MachineRow): MachineRow {
  if (row.state !== "destroyed") return row;
  throw new HearthError("machine_not_found", {
    message: "machine not found; it has been destroyed.",
    details: { machine_id: row.machineId },
  });
}
