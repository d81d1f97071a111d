/**
 * A secret that hosts of a region share: made once, sealed in cluster state for each host that is to have it. Any host
 * that has it seals it for those that came later, so it outlives the first host.
 */
import { type FactStore, type Replica, seal, unseal } from "@hearth/cluster";
import { factPrefixes, type NodeKeyFact } from "@hearth/machine";
import { writeFact } from "./write-fact.ts";

export interface SharedSecretDeps {
  readonly facts: () => FactStore;
  readonly replica: Replica;
  readonly nodeId: string;
  readonly sealSeedPath: string;
  readonly key: string;
  /** Whether a host is to have it. */
  readonly isFor: (node: NodeKeyFact) => boolean;
  /** When nobody in the region has one. */
  readonly first: () => string;
}

interface SecretsFact {
  readonly secrets: Readonly<Record<string, { readonly sealed: string; readonly by: string }>>;
}

/** Undefined while another host has it and has not sealed it for this one. */
export async function agreedSecret(deps: SharedSecretDeps): Promise<string | undefined> {
  const { replica, nodeId, sealSeedPath, key } = deps;
  // Before this copy is level with the region nobody knows that there is no secret.
  if (!replica.isSettled) return undefined;
  const known = replica.get(key);
  const fact = known?.value as SecretsFact | undefined;
  const own = fact?.secrets[nodeId];
  const secret =
    own !== undefined
      ? unseal(sealSeedPath, own.sealed, own.by)
      : fact === undefined
        ? deps.first()
        : undefined;
  if (secret === undefined) return undefined;
  const sealKeys = readers(deps);
  const mySealKey = sealKeys.get(nodeId);
  const missing = [...sealKeys].filter(([id]) => fact?.secrets[id] === undefined);
  if (missing.length === 0) return secret;
  if (mySealKey === undefined) return undefined;
  const added = missing.map(([id, sealKey]) => {
    return [id, { sealed: seal(sealSeedPath, secret, sealKey), by: mySealKey }] as const;
  });
  const value: SecretsFact = { secrets: { ...fact?.secrets, ...Object.fromEntries(added) } };
  await writeFact(
    { view: { replica }, facts: deps.facts },
    { key, value, expectedRevision: known?.revision ?? 0 },
  );
  return secret;
}

/** Public keys by node. */
function readers({ replica, isFor }: SharedSecretDeps): Map<string, string> {
  const nodes = replica.list(factPrefixes.nodeKey).map(({ value }) => value as NodeKeyFact);
  return new Map(
    nodes.flatMap((node) =>
      node.seal_key !== undefined && isFor(node) ? [[node.node_id, node.seal_key] as const] : [],
    ),
  );
}
