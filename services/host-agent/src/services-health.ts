/** What of the services of a host others should know: pure. */
import { frontDoor, type Problems } from "./node-health.ts";
import type { ServiceStatus } from "./supervisor.ts";

/** Without these a machine cannot be started here. */
const needed: ReadonlySet<string> = new Set(["images"]);

/**
 * What the API says of this node is left out: it is what is told here, and would come back for ever.
 * @param problems of services that run and do not answer
 */
export function servicesHealth(
  services: readonly ServiceStatus[],
  problems: Problems,
): { readonly problems: string[]; readonly warnings: string[] } {
  const told = services.flatMap(({ name, state, last_exit, restarts }) => {
    if (state === "backoff")
      return [{ name, text: `${name} ended (${last_exit ?? "nobody knows how"}) and is started again.` }];
    const silent = name === "regional" ? undefined : problems[name];
    if (state === "running" && silent !== undefined) return [{ name, text: silent }];
    return restarts >= 3
      ? [{ name: "", text: `${name} was started again ${restarts} times; last ${last_exit ?? ""}.` }]
      : [];
  });
  const closed = problems[frontDoor];
  if (closed !== undefined && problems.ingress === undefined) told.push({ name: "", text: closed });
  return {
    problems: told.filter(({ name }) => needed.has(name)).map(({ text }) => text),
    warnings: told.filter(({ name }) => !needed.has(name)).map(({ text }) => text),
  };
}
