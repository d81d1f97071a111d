/**
 * SRV records of an app's services (RFC 2782): `_<port>._tcp.<app>.internal` by the port inside the machine, and
 * `_<handler>._tcp.<app>.internal` by what the service is offered as, such as `_http._tcp`.
 */
import { addressRecord, type NameContent, ttlSeconds } from "./name-content.ts";
import type { NamedMachine, NamedService } from "./named-machine.ts";
import { rdata } from "./response.ts";
import { recordTypes } from "./wire.ts";

const maxTargets = 250;

export function serviceRecords(
  machines: readonly NamedMachine[],
  label: string,
  protocol: NamedService["protocol"],
): NameContent | undefined {
  if (!label.startsWith("_")) return undefined;
  const wanted = label.slice(1);
  const targets = machines.flatMap((machine) =>
    machine.services
      .filter((one) => one.protocol === protocol)
      .filter(({ port, handlers }) => String(port) === wanted || handlers.includes(wanted))
      .map(({ port }) => ({ machine, port, name: `${machine.id}.vm.${machine.app}.internal` })),
  );
  if (targets.length === 0) return undefined;
  const kept = targets.slice(0, maxTargets);
  return {
    records: kept.map(({ name, port }) => ({
      ...({ owner: "question", type: recordTypes.SRV, ttl: ttlSeconds } as const),
      rdata: rdata("SRV", { priority: 0, weight: 1, port, target: name }),
    })),
    additional: kept.flatMap(({ name, machine }) => addressRecord(machine.address, { name }) ?? []),
  };
}
