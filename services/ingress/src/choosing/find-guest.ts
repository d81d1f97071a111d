/**
 * A machine for a connection: each that does not take it is passed over, and one that has only just become ready is tried
 * again. Nothing is sent before, so whatever fails here may be tried elsewhere.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { IngressLimits } from "../limits.ts";
import type { LoadedTarget } from "../routes/targets.ts";
import { type Balancer, Refused, type Seeker } from "./balancer.ts";
import type { LoadedPlace } from "./choose-place.ts";

export interface GuestSearch extends Seeker {
  readonly find: () => LoadedTarget | undefined;
  /** Machines that were tried are added. */
  readonly tried: Set<string>;
}

/**
 * Resolves with the connection to a machine, which is counted as taken until it is released.
 * @throws Refused
 */
export async function findGuest<Made>(
  { balancer, limits }: { readonly balancer: Balancer; readonly limits: IngressLimits },
  search: GuestSearch,
  connect: (place: LoadedPlace) => Promise<Made>,
): Promise<{ readonly place: LoadedPlace; readonly made: Made }> {
  const { find, tried, signal } = search;
  for (;;) {
    const place = await balancer.acquire(find, tried, search);
    tried.add(place.endpoint.id);
    try {
      return { place, made: await connect(place) };
    } catch (error) {
      balancer.release(place);
      balancer.avoid(place, error);
      if (tried.size >= limits.attempts || signal.aborted)
        throw new Refused(balancer.refusalOf(place, error), (error as Error).message);
      if (balancer.isSettling(place, error)) {
        tried.delete(place.endpoint.id);
        await delay(limits.settleRetryMs);
      }
    }
  }
}
