/** What names need of a machine's fact: a few words of a record of kilobytes. */
import { isIPv4 } from "node:net";
import type { MachineFact } from "@hearth/machine";
import { parseMachineAddress } from "@hearth/network";

export interface NamedService {
  /** Where it is served inside the machine. */
  readonly port: number;
  readonly protocol: "tcp" | "udp";
  /** What SRV names it by besides its port. */
  readonly handlers: readonly string[];
}

export interface NamedMachine {
  readonly id: string;
  readonly app: string;
  readonly nodeId: string;
  readonly region: string;
  readonly processGroup: string | undefined;
  /** The 32 network bits of its address. */
  readonly network: number;
  readonly address: string;
  /** What its host sees where it speaks IPv4. */
  readonly egressAddress: string;
  readonly services: readonly NamedService[];
  /** Started, and not kept out of the names by its configuration. */
  readonly answers: boolean;
}

/** Undefined for a fact that has no address to answer with. */
export function namedMachine({ app, node_id, egress_ip, record }: MachineFact): NamedMachine | undefined {
  const { config, private_ip } = record;
  const network = networkOf(private_ip);
  if (network === undefined) return undefined;
  const answers = record.state === "started" && config.dns?.skip_registration !== true;
  return {
    ...{ id: record.id, app: app.toLowerCase(), nodeId: node_id, region: record.region.toLowerCase() },
    processGroup: config.metadata?.fly_process_group?.toLowerCase(),
    ...{ network, address: private_ip, egressAddress: egress_ip, answers },
    services: answers ? servicesOf(config.services ?? []) : [],
  };
}

function networkOf(address: string): number | undefined {
  if (isIPv4(address)) return undefined;
  try {
    return parseMachineAddress(address).network || undefined;
  } catch {
    // A machine that has no address yet.
    return undefined;
  }
}

type Services = NonNullable<MachineFact["record"]["config"]["services"]>;

function servicesOf(services: Services): NamedService[] {
  return services.flatMap(({ protocol = "tcp", internal_port: port, ports = [] }) => {
    if (port === undefined || (protocol !== "tcp" && protocol !== "udp")) return [];
    const handlers = ports.flatMap(({ handlers: names = [] }) => names.map((name) => name.toLowerCase()));
    return [{ port, protocol, handlers: [...new Set(handlers)] }];
  });
}

/** Whether both give the same answers to all questions. */
export function answersAlike(a: NamedMachine | undefined, b: NamedMachine | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && JSON.stringify(a) === JSON.stringify(b));
}
