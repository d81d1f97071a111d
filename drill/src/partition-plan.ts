/** What befalls a fleet, and in which order: a seed replays it. How far the clients have come by then, it does not. */
import type { ServiceName } from "@hearth/testkit";

/** Hosts by number, from 1. */
export type Fault = { readonly holdMs: number; readonly restMs: number } & (
  | { readonly kind: "isolate"; readonly host: number }
  /** Two do not hear each other, and the third hears both. */
  | { readonly kind: "part"; readonly host: number; readonly other: number }
  /** Nothing goes from the host to the other, and all goes back. */
  | { readonly kind: "cut"; readonly host: number; readonly other: number }
  /** It says and is not heard by anybody. */
  | { readonly kind: "mute"; readonly host: number }
  /** It hears nobody and is heard. */
  | { readonly kind: "deafen"; readonly host: number }
  | { readonly kind: "kill"; readonly host: number; readonly service: ServiceName }
  /** It does nothing for a while, and then goes on with all that has come for it meanwhile. */
  | { readonly kind: "pause"; readonly host: number; readonly service: ServiceName }
  | { readonly kind: "lose"; readonly host: number }
);

export type FaultKind = Fault["kind"];

export interface Plan {
  readonly hosts: number;
  readonly apis: number;
  /** Of all faults, with the rests between them. */
  readonly forMs: number;
  /** These and no others, once each; absent, all kinds, the loss of a host once. */
  readonly kinds?: readonly FaultKind[];
  /** Of one fault, where that is shorter than its kind lasts. */
  readonly longestHoldMs?: number;
}

const allKinds: readonly FaultKind[] = ["isolate", "part", "cut", "mute", "deafen", "kill", "pause", "lose"];
const repeated: readonly FaultKind[] = [
  ...allKinds.filter((kind) => kind !== "lose"),
  ...(["kill", "kill", "pause"] as const),
];

/** Longer than a lease lasts, in part: machines are started elsewhere in some runs, and the host comes back in all. */
const holdMs: Readonly<Record<FaultKind, readonly [number, number]>> = {
  isolate: [4_000, 30_000],
  part: [4_000, 25_000],
  cut: [4_000, 25_000],
  mute: [4_000, 30_000],
  deafen: [4_000, 30_000],
  kill: [1_000, 4_000],
  // Longer than any caller waits, for the most part.
  pause: [4_000, 30_000],
  lose: [8_000, 50_000],
};
const restMs = [1_000, 8_000] as const;

export function planFaults(
  random: () => number,
  { hosts, apis, forMs, kinds, longestHoldMs = Number.POSITIVE_INFINITY }: Plan,
): readonly Fault[] {
  const between = ([least, most]: readonly [number, number]): number =>
    Math.round(least + random() * (most - least));
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T;
  const make = (kind: FaultKind): Fault => {
    const host = 1 + Math.floor(random() * hosts);
    const other = 1 + ((host + Math.floor(random() * (hosts - 1))) % hosts);
    const services: ServiceName[] = [
      "worker",
      "worker",
      "nats-server",
      "images",
      "host-agent",
      "dns",
      "ingress",
    ];
    const service = pick<ServiceName>(host <= apis ? [...services, "regional", "regional", "ssh"] : services);
    const times = { holdMs: Math.min(between(holdMs[kind]), longestHoldMs), restMs: between(restMs) };
    if (kind === "kill" || kind === "pause") return { ...times, kind, host, service };
    return kind === "part" || kind === "cut" ? { ...times, kind, host, other } : { ...times, kind, host };
  };
  const plan = shuffled(kinds ?? allKinds, random).map(make);
  if (kinds !== undefined) return plan;
  const lasts = (faults: readonly Fault[]): number =>
    faults.reduce((sum, { holdMs, restMs }) => sum + holdMs + restMs, 0);
  while (lasts(plan) < forMs) plan.push(make(pick(repeated)));
  while (plan.length > 1 && lasts(plan) > forMs) plan.pop();
  return plan;
}

function shuffled<T>(from: readonly T[], random: () => number): T[] {
  return from
    .map((value) => ({ value, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ value }) => value);
}
