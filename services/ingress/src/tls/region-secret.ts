/** The secret that private keys in cluster state are sealed with, as this host was given it; opened when it is first needed. */
import { openSealed } from "@hearth/acme";
import { type Replica, unseal } from "@hearth/cluster";
import { type CertificateSecretFact, factKeys } from "@hearth/machine";

export interface RegionSecretDeps {
  readonly replica: Pick<Replica, "get">;
  readonly nodeId: string;
  /** Of the host's own key; without it nothing is opened. */
  readonly sealSeedPath: string | undefined;
}

const maxKeys = 1_000;

export function regionKeys({ replica, nodeId, sealSeedPath }: RegionSecretDeps) {
  let opened: { readonly revision: number; readonly secret: string | undefined } | undefined;
  const secret = (): string | undefined => {
    const fact = replica.get(factKeys.certificateSecret());
    if (fact === undefined || sealSeedPath === undefined) return undefined;
    if (opened?.revision === fact.revision) return opened.secret;
    const own = (fact.value as CertificateSecretFact).secrets[nodeId];
    opened = { revision: fact.revision, secret: own && unseal(sealSeedPath, own.sealed, own.by) };
    return opened.secret;
  };
  /** By what was sealed: the same for each connection. */
  const keys = new Map<string, string>();
  return (purpose: string, sealed: string): string | undefined => {
    const id = `${purpose} ${sealed}`;
    const kept = keys.get(id);
    if (kept !== undefined) return kept;
    const known = secret();
    const key = known === undefined ? undefined : openSealed(known, purpose, sealed);
    if (key === undefined) return undefined;
    if (keys.size >= maxKeys) keys.clear();
    keys.set(id, key);
    return key;
  };
}
