import { leaseHeaders, machinePath, type Target } from "./machines.ts";
import type { Transport } from "./transport.ts";

/** Names and values on a machine; writing them restarts nothing. */
export class Metadata {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  all(target: Target): Promise<Record<string, string>> {
    const path = `${machinePath(target)}/metadata`;
    return this.#transport.json({ method: "GET", path, signal: target.signal });
  }

  async set(target: Target, key: string, value: string): Promise<void> {
    const path = `${machinePath(target)}/metadata/${encodeURIComponent(key)}`;
    const headers = leaseHeaders(target);
    await this.#transport.json({ method: "POST", path, headers, json: { value }, signal: target.signal });
  }

  async delete(target: Target, key: string): Promise<void> {
    const path = `${machinePath(target)}/metadata/${encodeURIComponent(key)}`;
    const headers = leaseHeaders(target);
    await this.#transport.json({ method: "DELETE", path, headers, signal: target.signal });
  }
}
