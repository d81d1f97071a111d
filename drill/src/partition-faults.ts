/** Makes a planned fault happen to a fleet, holds it, and takes it back. */
import { setTimeout as delay } from "node:timers/promises";
import { type FleetHost, type RunningFleet, type ServiceName, until } from "@hearth/testkit";
import type { Fault } from "./partition-plan.ts";

const backLimitMs = 120_000;

/**
 * @param onDropped is told how many packets a partition took
 * @throws Error when what was killed is not back within its limit
 */
export async function befall(
  fleet: RunningFleet,
  fault: Fault,
  onDropped: (packets: number) => void,
): Promise<void> {
  const host = fleet.host(fault.host);
  const others = fleet.hosts.filter((other) => other !== host);
  switch (fault.kind) {
    case "isolate":
      await fleet.isolate(host);
      break;
    case "part":
      await fleet.partition([host], [fleet.host(fault.other)]);
      break;
    case "cut":
      await fleet.cut(host, fleet.host(fault.other));
      break;
    case "mute":
      for (const other of others) await fleet.cut(host, other);
      break;
    case "deafen":
      for (const other of others) await fleet.cut(other, host);
      break;
    case "kill":
      await untilRuns(host, fault.service);
      await host.kill(fault.service);
      break;
    case "pause":
      await untilRuns(host, fault.service);
      await host.pause(fault.service);
      break;
    case "lose":
      await host.lose();
  }
  await delay(fault.holdMs);
  if (fault.kind === "lose" || (fault.kind === "kill" && fault.service === "host-agent"))
    await fleet.region.start(host);
  else if (fault.kind === "kill") await untilRuns(host, fault.service);
  else if (fault.kind === "pause") {
    // The agent may have put another in the place of what stood still.
    await untilRuns(host, fault.service);
    await host.resume(fault.service);
  } else {
    onDropped(await fleet.dropped());
    await fleet.heal();
  }
  await delay(fault.restMs);
}

export function describeFault(fault: Fault): string {
  const what = "service" in fault ? ` ${fault.service}` : "other" in fault ? ` from host ${fault.other}` : "";
  return `${fault.kind} host ${fault.host}${what} for ${Math.round(fault.holdMs / 1000)} s`;
}

const untilRuns = (host: FleetHost, service: ServiceName): Promise<number> =>
  until(`${service} on ${host.name}`, backLimitMs, async () => host.pids(service)[0]);
