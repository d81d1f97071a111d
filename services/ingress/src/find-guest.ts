/**
 * A machine for what is no request of HTTP any more, or becomes none: each that does not take the connection is passed
 * over, and one that has only just become ready is tried again. What was sent to a machine is never sent to another.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Balancer } from "./balancer.ts";
import type { LoadedPlace } from "./choose-place.ts";
import type { IngressLimits } from "./limits.ts";
import type { LoadedTarget } from "./targets.ts";

export interface GuestSearch {
  readonly find: () => LoadedTarget | undefined;
  /** Machines that were tried are added. */
  readonly tried: Set<string>;
  readonly signal: AbortSignal;
}

/** What a try fails with once the machine has taken the connection. It is not tried elsewhere. */
export class TakenAndFailed extends Error {
  constructor(cause: Error) {
    super(cause.message, { cause });
  }
}

/**
 * Resolves with what `attempt` has made of a machine, which is counted as taken until it is released.
 * @throws Refused when there is no machine, or what the last machine failed with
 */
export async function findGuest<Made>(
  { balancer, limits }: { readonly balancer: Balancer; readonly limits: IngressLimits },
  { find, tried, signal }: GuestSearch,
  attempt: (place: LoadedPlace) => Promise<Made>,
): Promise<{ readonly place: LoadedPlace; readonly made: Made }> {
  for (;;) {
    const place = await balancer.acquire(find, tried, signal);
    tried.add(place.endpoint.id);
    try {
      return { place, made: await attempt(place) };
    } catch (error) {
      balancer.release(place);
      if (error instanceof TakenAndFailed) throw error.cause;
      balancer.avoid(place);
      if (tried.size >= limits.attempts || signal.aborted) throw error;
      if (balancer.isSettling(place)) {
        tried.delete(place.endpoint.id);
        await delay(limits.settleRetryMs);
      }
    }
  }
}
