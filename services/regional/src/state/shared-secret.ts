/**
 * A secret that hosts of a region share: made once, sealed in cluster state for each host that is to have it. Any host
 * that has it seals it for those that came later, so it outlives the first host.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type FactStore, type Replica, seal, unseal } from "@hearth/cluster";
import { factPrefixes, type NodeKeyFact } from "@hearth/machine";
import { BackgroundLoop } from "@hearth/process";
import type { Logger } from "@hearth/telemetry";
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

export interface SecretKeeperDeps extends SharedSecretDeps {
  /** What it is of, as the log says it. */
  readonly what: string;
  /** This host has it; called at each look. */
  readonly taken: (secret: string) => void;
  readonly logger: Logger;
}

const everyMs = 2_000;

/** Looks from time to time, for this host's own part and for hosts that have come. */
export class SecretKeeper {
  readonly #deps: SecretKeeperDeps;
  readonly #loop = new BackgroundLoop((signal) => this.#run(signal));

  constructor(deps: SecretKeeperDeps) {
    this.#deps = deps;
  }

  start(): void {
    this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { taken, logger, what } = this.#deps;
    let isWarned = false;
    while (!signal.aborted) {
      try {
        const secret = await agreedSecret(this.#deps);
        if (secret !== undefined) taken(secret);
        isWarned = false;
      } catch (error) {
        if (!isWarned) logger.warn({ err: error }, `${what}: it is tried again`);
        isWarned = true;
      }
      await delay(everyMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }
}

/** Undefined while another host has it and has not sealed it for this one. */
async function agreedSecret(deps: SharedSecretDeps): Promise<string | undefined> {
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
