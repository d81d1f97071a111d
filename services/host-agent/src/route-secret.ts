/** What the servers of the bus know each other by, on its way through cluster state: sealed for each member. */
import { seal, unseal } from "@hearth/cluster";
import type { BusFact, NodeKeyFact } from "@hearth/machine";
import { ensureRouteSecret, type HostKeys, keyPaths } from "./host-keys.ts";

/** Makes the secret when there is none. */
export function sealedFact(
  dataDir: string,
  keys: Pick<HostKeys, "seal">,
  members: readonly NodeKeyFact[],
): BusFact {
  const secret = ensureRouteSecret(dataDir);
  const sealed = members.flatMap(({ node_id, seal_key }) =>
    seal_key === undefined ? [] : [[node_id, seal(keyPaths(dataDir).seal, secret, seal_key)] as const],
  );
  return {
    state: "forming",
    members: members.map(({ node_id }) => node_id),
    secrets: Object.fromEntries(sealed),
    sealed_by: keys.seal,
  };
}

export function unsealSecret(dataDir: string, fact: BusFact, nodeId: string): string | undefined {
  const sealed = fact.secrets[nodeId];
  return sealed === undefined ? undefined : unseal(keyPaths(dataDir).seal, sealed, fact.sealed_by);
}
