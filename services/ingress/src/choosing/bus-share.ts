/**
 * Loads between hosts: what all processes of this host have is told over the bus, and what other hosts tell counts
 * here. Told 200 ms after a change at the latest, and all of it every two seconds; a host that is silent for seven has
 * lost its door or its bus, and counts as one that has nothing.
 */
import { type Bus, hearLoads, type LoadListening, tellLoads } from "@hearth/cluster";
import type { SharedLoads } from "./shared-loads.ts";

export interface BusShareDeps {
  /** Connected for the first time, or more. */
  readonly bus: Bus;
  readonly nodeId: string;
  readonly loads: SharedLoads;
  readonly log: (fields: object, text: string) => void;
  readonly limits?: Partial<ShareTimes>;
}

export interface ShareTimes {
  readonly pauseMs: number;
  readonly wholeEveryMs: number;
  readonly leaseMs: number;
}

const defaultTimes: ShareTimes = { pauseMs: 200, wholeEveryMs: 2_000, leaseMs: 7_000 };
const busName = "bus";
const hostSource = (nodeId: string): string => `host:${nodeId}`;
const isHost = (source: string): boolean => source.startsWith("host:");

export function shareOverBus({ bus, nodeId, loads, log, limits }: BusShareDeps): Disposable {
  const { pauseMs, wholeEveryMs, leaseMs } = { ...defaultTimes, ...limits };
  let listening: LoadListening | undefined;
  const listen = (): void => {
    if (!bus.isConnected || listening?.isClosed === false) return;
    listening = hearLoads(bus, {
      heard: (from, report) => {
        if (from !== nodeId) loads.take(hostSource(from), report);
      },
      failed: (error) => log({ err: error }, "another host told loads that cannot be read"),
    });
  };
  listen();
  loads.addReceiver({
    ...{ name: busName, pauseMs, wholeEveryMs, hears: (source) => !isHost(source) },
    tell: (report) => tellLoads(bus, nodeId, report),
  });
  const looking = setInterval(() => {
    for (const source of loads.expire(leaseMs, isHost)) log({ source }, "no word of another host's loads");
    // A server that was not told yet of this right refuses it; the next one may not.
    listen();
  }, wholeEveryMs).unref();
  return {
    [Symbol.dispose]() {
      clearInterval(looking);
      loads.removeReceiver(busName);
      listening?.[Symbol.dispose]();
    },
  };
}
