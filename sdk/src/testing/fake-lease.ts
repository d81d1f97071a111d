/** Leases of the fake API, by the rules of the real one. */
import type { IncomingMessage } from "node:http";
import { checkLease, grantLease, leaseData, needLease } from "@hearth/machine";
import type { FakeMachine } from "./fake-machine.ts";

interface LeaseExchange {
  readonly request: IncomingMessage;
  readonly parts: readonly string[];
  readonly json: () => Promise<Record<string, unknown>>;
}

const nonceOf = ({ headers }: IncomingMessage): string | undefined => {
  const { "fly-machine-lease-nonce": nonce } = headers;
  return typeof nonce === "string" ? nonce : undefined;
};

/** Refuses what would change a machine that somebody else leases. */
export function gate(method: string, path: string, request: IncomingMessage, find: () => FakeMachine): void {
  const changes = /\/machines\/[0-9a-f]{14}(\/(start|stop|restart|signal|cordon|uncordon|metadata\/.*))?$/;
  if (method === "GET" || !changes.test(path)) return;
  const machine = find();
  checkLease(machine.id, machine.lease, nonceOf(request), Date.now());
}

export async function fakeLease(machine: FakeMachine, { request, json }: LeaseExchange): Promise<object> {
  const nonce = nonceOf(request);
  const nowMs = Date.now();
  if (request.method === "GET")
    return { status: "success", data: leaseData(needLease(machine.lease, nowMs), { withNonce: false }) };
  if (request.method === "DELETE") {
    checkLease(machine.id, machine.lease, nonce, nowMs);
    needLease(machine.lease, nowMs);
    machine.lease = null;
    return { status: "success", data: { ok: true } };
  }
  const {
    ttl = 30,
    owner = "api",
    description,
  } = (await json()) as {
    readonly ttl?: number;
    readonly owner?: string;
    readonly description?: string;
  };
  const version = machine.record().instance_id;
  const moment = { machineId: machine.id, version, nowMs, newNonce: () => `nonce${nowMs}` };
  machine.lease = grantLease(machine.lease, { ttlMs: ttl * 1000, nonce, owner, description }, moment);
  return { status: "success", data: leaseData(machine.lease, { withNonce: true }) };
}

export function fakeCordon(machine: FakeMachine, { parts }: LeaseExchange): object {
  machine.cordoned = parts[2] === "cordon";
  return { ok: true };
}
