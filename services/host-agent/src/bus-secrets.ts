/**
 * The secret of the bus servers as it comes to this host: out of the fact that it is sealed in, on to the disk, and into
 * use when it counts. Also asks which other servers go by one.
 */
import { takesSecret } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import type { BusFact, NodeKeyFact } from "@hearth/machine";
import type { HostBusDeps } from "./host-bus.ts";
import {
  keepNextSecret,
  keepRouteSecret,
  type RouteSecret,
  readNextSecret,
  readRouteSecret,
  unsealSecret,
} from "./route-secret.ts";

export interface BusSecretsDeps extends Pick<HostBusDeps, "settings" | "identity"> {
  /** Of the region, without those that were removed. */
  readonly nodes: () => readonly NodeKeyFact[];
}

const notSealed = (): HearthError =>
  new HearthError("bus_unauthorized", {
    message: "The secret of the bus servers is not sealed for this host's key; join the host again.",
  });

export class BusSecrets {
  readonly #deps: BusSecretsDeps;

  constructor(deps: BusSecretsDeps) {
    this.#deps = deps;
  }

  cluster({ text }: RouteSecret): { readonly name: string; readonly secret: string } {
    return { name: `hearth-${this.#deps.identity.region}`, secret: text };
  }

  /**
   * A member was sent the secret of the servers in a fact that it alone can read.
   * @throws HearthError `bus_unauthorized`
   */
  async take(fact: BusFact): Promise<void> {
    const { dataDir } = this.#deps.settings;
    const { node_id } = this.#deps.identity;
    const number = readRouteSecret(dataDir)?.number ?? 0;
    if (number < (fact.secret_number ?? 1)) {
      const secret = unsealSecret(dataDir, fact, node_id);
      if (secret !== undefined) keepRouteSecret(dataDir, secret);
      else if (fact.members.includes(node_id)) throw notSealed();
    }
    const { next } = fact;
    if (next === undefined || next.secret_number <= number || !next.members.includes(node_id)) return;
    const offered = unsealSecret(dataDir, next, node_id);
    if (offered === undefined) throw notSealed();
    if (readNextSecret(dataDir)?.number !== offered.number) keepNextSecret(dataDir, offered);
    // A server that has taken the new secret is cut off from those that have not heard that it counts.
    if (next.ready.includes(node_id) && (await this.whoTakes(offered, fact.members)).includes(true))
      keepRouteSecret(dataDir, offered);
  }

  /** Of the servers of the other members, in no order; undefined for one that does not say. */
  async whoTakes(secret: RouteSecret, members: readonly string[]): Promise<(boolean | undefined)[]> {
    const { node_id } = this.#deps.identity;
    const others = this.#deps
      .nodes()
      .filter((node) => node.node_id !== node_id && members.includes(node.node_id));
    return await Promise.all(
      others.map(({ bus }) => takesSecret(this.cluster(secret), bus?.route_url ?? "")),
    );
  }
}
