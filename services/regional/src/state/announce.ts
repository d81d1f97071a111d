/**
 * Says in cluster state what this host brings along: the public half of its signing key, and the hash of its
 * operator's token. Both are said again whenever they differ from what is there, until it has worked.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { FactStore, Replica } from "@hearth/cluster";
import { type AdminTokenFact, factKeys, type SigningKeyFact } from "@hearth/machine";
import type { Logger } from "@hearth/telemetry";
import type { OperatorTokens, OwnOperatorToken } from "../tokens/operator-tokens.ts";
import type { SigningKey } from "../tokens/signing-key.ts";
import { writeFact } from "./write-fact.ts";

const retryMs = 1_000;

export interface AnnounceDeps {
  readonly facts: () => FactStore;
  readonly replica: Replica;
  readonly operators: OperatorTokens;
  readonly own: OwnOperatorToken;
  readonly signingKey: SigningKey;
  readonly nowMs: () => number;
  readonly logger: Logger;
}

/** Resolves when it is done, or when the signal aborts. Never rejects. */
export async function announce(deps: AnnounceDeps, signal: AbortSignal): Promise<void> {
  for (let attempt = 1; !signal.aborted; attempt += 1) {
    try {
      await announceKey(deps);
      await announceOperator(deps);
      return;
    } catch (error) {
      if (attempt === 1)
        deps.logger.warn({ err: error }, "the keys of this host are not announced yet; it is tried again");
      await delay(retryMs, undefined, { signal }).catch(() => undefined);
    }
  }
}

/** Nobody can check what is signed before this has resolved. */
export async function announceKey({ replica, signingKey, own, ...deps }: AnnounceDeps): Promise<void> {
  const { kid, x } = signingKey;
  const key = factKeys.signingKey(kid);
  const known = replica.get(key)?.value as SigningKeyFact | undefined;
  if (known?.x === x && known.node_id === own.nodeId) return;
  const fact: SigningKeyFact = { kid, node_id: own.nodeId, x };
  await writeFact({ view: { replica }, facts: deps.facts }, { key, value: fact });
}

async function announceOperator({ replica, operators, own, ...deps }: AnnounceDeps): Promise<void> {
  if (own.hash !== undefined) {
    const fact: AdminTokenFact = {
      node_id: own.nodeId,
      sha256: own.hash.toString("hex"),
      changed_at_ms: deps.nowMs(),
    };
    const key = factKeys.adminToken(own.nodeId);
    const known = replica.get(key)?.value as AdminTokenFact | undefined;
    if (known?.sha256 !== fact.sha256)
      await writeFact({ view: { replica }, facts: deps.facts }, { key, value: fact });
  }
  operators.announced();
}
