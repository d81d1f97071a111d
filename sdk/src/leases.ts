import type { LeaseData } from "@hearth/machine";
import { leaseHeaders, machinePath, type Target } from "./machines.ts";
import type { Call, Transport } from "./transport.ts";

export interface AcquireLease {
  /** 30 when absent. */
  readonly ttlSeconds?: number;
  readonly description?: string;
  /** Named to others who want the lease. */
  readonly owner?: string;
}

/** The lease of a machine: while it lives, only who sends its nonce changes the machine. */
export class Leases {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** @throws HearthError `lease_not_found` */
  get(target: Target): Promise<LeaseData> {
    return this.#call(target, "GET");
  }

  /** With a nonce in the target the lease is extended. @throws HearthError `lease_held`, `lease_not_found` */
  acquire(target: Target, { ttlSeconds, description, owner }: AcquireLease = {}): Promise<LeaseData> {
    return this.#call(target, "POST", { ttl: ttlSeconds, description, owner });
  }

  /** @throws HearthError `lease_held`, `lease_not_found` */
  async release(target: Target): Promise<void> {
    await this.#call(target, "DELETE");
  }

  async #call(target: Target, method: Call["method"], json?: object): Promise<LeaseData> {
    const path = `${machinePath(target)}/lease`;
    const call = { method, path, headers: leaseHeaders(target), signal: target.signal };
    const answer = await this.#transport.json<{ readonly data: LeaseData }>({
      ...call,
      ...(json === undefined ? {} : { json }),
    });
    return answer.data;
  }
}
