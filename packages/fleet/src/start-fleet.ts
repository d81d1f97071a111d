/** A fleet with a region in it, ready for work. */
import { HearthError } from "@hearth/errors";
import { Fleet } from "./fleet.ts";
import { Region, type RegionPlan } from "./region.ts";

export interface FleetOptions extends Partial<RegionPlan> {
  readonly hosts: number;
  /** Told what is done now. */
  readonly onStep?: (text: string) => void;
  /** Gives up while it starts; what there is by then is taken away. */
  readonly signal?: AbortSignal;
}

export type RunningFleet = Fleet & { readonly region: Region };

/**
 * @throws HearthError `host_requirement_missing` without root or a program, `invalid_argument`, `cancelled`, and
 * what the commands of the hosts said
 */
export async function startFleet({
  hosts,
  apis = Math.min(2, hosts),
  buses = 1,
  onStep,
  signal,
}: FleetOptions): Promise<RunningFleet> {
  onStep?.("making the hosts and the network between them");
  const fleet = await Fleet.powerOn(hosts);
  // A host that is gone fails the command that is waited for.
  const giveUp = (): void => void fleet[Symbol.asyncDispose]().catch(() => undefined);
  signal?.addEventListener("abort", giveUp);
  try {
    if (signal?.aborted) giveUp();
    const region = new Region(fleet.hosts, { apis, buses });
    await region.form(onStep);
    return Object.assign(fleet, { region });
  } catch (error) {
    await fleet[Symbol.asyncDispose]();
    throw signal?.aborted ? new HearthError("cancelled", { cause: error }) : error;
  } finally {
    signal?.removeEventListener("abort", giveUp);
  }
}
