/**
 * What the front door counts, out of the same events that it logs; so a number and the lines it stands for cannot
 * disagree. Series are bounded: so many apps have their own, in the order in which they came, and what the others do is
 * counted together.
 *
 * A snapshot is plain data, and snapshots add up: several processes of one door are told as one.
 */
import type { AccessEvent } from "./access-log.ts";

/** Upper bounds in seconds; the last, of all that is slower, goes without saying. */
export const buckets = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
] as const;

export interface Histogram {
  /** One more than there are bounds. */
  readonly counts: number[];
  sum: number;
}

export interface AppCounts {
  /** By `kind route code`, such as `http app 2xx`. */
  readonly requests: Record<string, number>;
  readonly duration: Histogram;
  /** From the choice of a machine until it began to answer. */
  readonly upstream: Histogram;
  /** Of requests that waited for a machine to start. */
  readonly wake: Histogram;
  /** Of requests that waited for room. */
  readonly queue: Histogram;
  bytesIn: number;
  bytesOut: number;
  retries: number;
}

export interface DoorSnapshot {
  readonly apps: Record<string, AppCounts>;
  /** By the code of the door's own answer. */
  readonly refused: Record<string, number>;
  readonly gauges: Record<string, number>;
  /** By app; only those for which somebody waits. */
  readonly waiting: Record<string, number>;
}

/** No app can have these names. */
export const noApp = "";
export const otherApps = "(other)";

export class DoorMetrics {
  readonly #apps = new Map<string, AppCounts>();
  readonly #refused: Record<string, number> = {};
  readonly #maxApps: number;

  constructor(maxApps: number) {
    this.#maxApps = maxApps;
  }

  note(event: AccessEvent): void {
    const counts = this.#countsOf(event.app ?? noApp);
    const key = keyOf(event);
    counts.requests[key] = (counts.requests[key] ?? 0) + 1;
    observe(counts.duration, event.duration_ms);
    if (event.upstream_ms !== undefined) observe(counts.upstream, event.upstream_ms);
    if (event.why_waited !== undefined && event.wait_ms !== undefined)
      observe(event.why_waited === "full" ? counts.queue : counts.wake, event.wait_ms);
    counts.bytesIn += event.bytes_in ?? 0;
    counts.bytesOut += event.bytes_out ?? 0;
    counts.retries += Math.max(0, (event.attempts ?? 1) - 1);
    // Reasons are a closed set, as an event's reason is a code of the door.
    const { reason } = event;
    if (reason !== undefined) this.#refused[reason] = (this.#refused[reason] ?? 0) + 1;
  }

  snapshot(
    gauges: Readonly<Record<string, number>> = {},
    waiting: Readonly<Record<string, number>> = {},
  ): DoorSnapshot {
    const told: Record<string, number> = {};
    for (const [app, count] of Object.entries(waiting)) {
      const name = this.#apps.has(app) ? app : otherApps;
      told[name] = (told[name] ?? 0) + count;
    }
    return structuredClone({
      ...{ apps: Object.fromEntries(this.#apps), refused: this.#refused, gauges: { ...gauges } },
      waiting: told,
    });
  }

  #countsOf(app: string): AppCounts {
    const known = this.#apps.get(app);
    if (known !== undefined) return known;
    if (app !== otherApps && app !== noApp && this.#apps.size >= this.#maxApps)
      return this.#countsOf(otherApps);
    const counts = newCounts();
    this.#apps.set(app, counts);
    return counts;
  }
}

const newHistogram = (): Histogram => ({ counts: new Array<number>(buckets.length + 1).fill(0), sum: 0 });

const newCounts = (): AppCounts => ({
  ...{ requests: {}, duration: newHistogram(), upstream: newHistogram(), wake: newHistogram() },
  ...{ queue: newHistogram(), bytesIn: 0, bytesOut: 0, retries: 0 },
});

function observe(histogram: Histogram, ms: number): void {
  const seconds = ms / 1000;
  let at = 0;
  while (at < buckets.length && seconds > (buckets[at] as number)) at += 1;
  histogram.counts[at] = (histogram.counts[at] ?? 0) + 1;
  histogram.sum += seconds;
}

function kindOf({ event, protocol }: AccessEvent): string {
  if (event === "request") return "http";
  return event === "tunnel" ? "websocket" : protocol;
}

/** By the name of an app, or by that of one machine. */
function routeKindOf(route: string | undefined): string {
  if (route === undefined) return "none";
  return route.includes(":") ? "app" : "machine";
}

/** Most events are of a few kinds; to make their text each time would cost as much as to count them. */
const httpKeys = new Map<string, string[]>();

function keyOf(event: AccessEvent): string {
  const route = routeKindOf(event.route);
  const keys = httpKeys.get(route) ?? [];
  const hundreds = Math.floor(event.status / 100);
  const known = event.event === "request" ? keys[hundreds] : undefined;
  if (known !== undefined) return known;
  const key = `${kindOf(event)} ${route} ${codeClass(event.status)}`;
  if (event.event === "request") {
    keys[hundreds] = key;
    httpKeys.set(route, keys);
  }
  return key;
}

/** 0 stands for what got no answer of HTTP. */
const codeClass = (status: number): string => (status < 100 ? "none" : `${Math.floor(status / 100)}xx`);

export function mergeSnapshots(snapshots: readonly DoorSnapshot[]): DoorSnapshot {
  const merged: DoorSnapshot = { apps: {}, refused: {}, gauges: {}, waiting: {} };
  for (const { apps, refused, gauges, waiting } of snapshots) {
    for (const [app, counts] of Object.entries(apps)) {
      merged.apps[app] ??= newCounts();
      addCounts(merged.apps[app], counts);
    }
    addAll(merged.refused, refused);
    addAll(merged.gauges, gauges);
    addAll(merged.waiting, waiting);
  }
  return merged;
}

function addAll(into: Record<string, number>, from: Readonly<Record<string, number>>): void {
  for (const [key, count] of Object.entries(from)) into[key] = (into[key] ?? 0) + count;
}

function addCounts(into: AppCounts, from: AppCounts): void {
  addAll(into.requests, from.requests);
  for (const name of ["duration", "upstream", "wake", "queue"] as const) {
    from[name].counts.forEach((count, at) => {
      into[name].counts[at] = (into[name].counts[at] ?? 0) + count;
    });
    into[name].sum += from[name].sum;
  }
  into.bytesIn += from.bytesIn;
  into.bytesOut += from.bytesOut;
  into.retries += from.retries;
}
