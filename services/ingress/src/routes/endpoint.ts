/**
 * What the front door has to know of a machine, out of its fact: pure. The state is that of a place that traffic can
 * go to, not that of the machine: a machine that runs and fails its checks is `away`, as one that is stopping is.
 */
import { type MachineFact, serviceAutostarts } from "@hearth/machine";
import { type PortOptions, portOptionsOf } from "./port-options.ts";

/**
 * ready: takes traffic. asleep: a start would make it ready. waking: it is started or replaced already, or has not
 * passed its checks yet. leaving: it stops, and is asleep then. away: it takes nothing, and a start would not change that.
 * lost: its host is.
 */
export type EndpointState = "ready" | "asleep" | "waking" | "leaving" | "away" | "lost";

export interface PublicPort extends PortOptions {
  readonly first: number;
  readonly last: number;
  readonly handlers: ReadonlySet<string>;
  readonly forceHttps: boolean;
}

export interface Service {
  readonly internalPort: number;
  readonly ports: readonly PublicPort[];
  readonly autostart: boolean;
  /** What asks for `suspend` is left running: a stop would lose what it wants kept. */
  readonly autostop: "off" | "stop";
  readonly minRunning: number;
  /** Of requests or of connections, as the service says. */
  readonly softLimit: number;
  readonly hardLimit: number;
}

export interface Endpoint {
  readonly id: string;
  readonly app: string;
  readonly nodeId: string;
  readonly address: string;
  readonly state: EndpointState;
  readonly services: readonly Service[];
  /** Of the fact that says so. */
  readonly factRevision: number;
}

type ServiceInput = NonNullable<MachineFact["record"]["config"]["services"]>[number];

/** What the Machines API has for a service that names none; there a hard limit that is absent does not limit. */
export const defaultSoftLimit = 20;

export function endpointOf({
  app,
  node_id,
  desired,
  record,
}: MachineFact): Omit<Endpoint, "services" | "factRevision"> {
  const isLeaving = desired === "destroyed" || record.cordoned;
  return {
    id: record.id,
    app,
    nodeId: node_id,
    address: record.private_ip,
    state: isLeaving ? "away" : stateOf(record),
  };
}

export function servicesOf(config: MachineFact["record"]["config"]): Service[] {
  return (config.services ?? []).flatMap((service) => {
    const { internal_port: internalPort } = service;
    if (internalPort === undefined || (service.protocol ?? "tcp") !== "tcp") return [];
    return [serviceOf(service, internalPort, serviceAutostarts(config, service))];
  });
}

function serviceOf(service: ServiceInput, internalPort: number, autostart: boolean): Service {
  const { concurrency, autostop } = service;
  const hardLimit = concurrency?.hard_limit || Number.POSITIVE_INFINITY;
  return {
    internalPort,
    autostart,
    autostop: autostop === true || autostop === "stop" ? "stop" : "off",
    minRunning: service.min_machines_running ?? 0,
    hardLimit,
    softLimit: Math.min(concurrency?.soft_limit || defaultSoftLimit, hardLimit),
    ports: (service.ports ?? []).flatMap((given) => {
      const first = given.port ?? given.start_port;
      if (first === undefined) return [];
      const last = given.port ?? given.end_port ?? first;
      const handlers = new Set((given.handlers ?? []).map((each) => each.toLowerCase()));
      const forceHttps = given.force_https === true;
      return [{ ...portOptionsOf(given), first, last, handlers, forceHttps }];
    }),
  };
}

function stateOf({ state, checks, config }: MachineFact["record"]): EndpointState {
  if (state === "starting" || state === "replacing") return "waking";
  if (state === "stopping" || state === "suspending") return "leaving";
  if (state === "stopped" || state === "suspended" || state === "created") return "asleep";
  if (state !== "started") return "away";
  const own = config.checks ?? {};
  const counted = checks.filter(({ name }) => own[name]?.kind !== "informational");
  if (counted.some(({ status }) => status === "critical")) return "away";
  return counted.every(({ status }) => status === "passing") ? "ready" : "waking";
}
