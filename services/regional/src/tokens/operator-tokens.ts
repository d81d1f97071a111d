/**
 * The tokens of operators: a random text in a file of a host, of which every API process knows the hash. The hash of
 * this host's file counts from the start, also while the bus is down; once it is announced the fact alone counts, so
 * that what replaces it is obeyed everywhere.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import type { Fact, Replica } from "@hearth/cluster";
import { type AdminTokenFact, factPrefixes } from "@hearth/machine";
import type { OperatorCredential } from "./caller.ts";
import { everything } from "./token-scope.ts";

export const sha256 = (text: string): Buffer => createHash("sha256").update(text).digest();

export interface OwnOperatorToken {
  readonly nodeId: string;
  /** Undefined on a host that has no such file. */
  readonly hash: Buffer | undefined;
}

export class OperatorTokens {
  readonly #own: OwnOperatorToken;
  readonly #ofNode = new Map<string, Buffer>();
  readonly #watchers = new Set<() => void>();
  #isAnnounced = false;

  /** @param replica already started */
  constructor(replica: Replica, own: OwnOperatorToken) {
    this.#own = own;
    for (const fact of replica.list(factPrefixes.adminToken)) this.#take(fact);
    replica.watch(factPrefixes.adminToken, (fact) => {
      this.#take(fact);
      for (const watcher of this.#watchers) watcher();
    });
  }

  /** From now on what the cluster says of this host's token counts. */
  announced(): void {
    this.#isAnnounced = true;
  }

  find(token: string): OperatorCredential | undefined {
    return this.#findHash(sha256(token));
  }

  /** Whether this credential, found before, would still be found. */
  isValid({ sha256: hex }: OperatorCredential): boolean {
    return this.#findHash(Buffer.from(hex, "hex")) !== undefined;
  }

  watch(onChange: () => void): void {
    this.#watchers.add(onChange);
  }

  #findHash(hash: Buffer): OperatorCredential | undefined {
    let found: OperatorCredential | undefined;
    // All are compared, so that the time says nothing of which one it was.
    for (const [nodeId, each] of this.#accepted())
      if (timingSafeEqual(each, hash))
        found = { kind: "operator", nodeId, sha256: hash.toString("hex"), scope: everything };
    return found;
  }

  #accepted(): Map<string, Buffer> {
    const { nodeId, hash } = this.#own;
    if (this.#isAnnounced || hash === undefined) return this.#ofNode;
    return new Map(this.#ofNode).set(nodeId, hash);
  }

  #take({ key, value }: Fact): void {
    const nodeId = key.slice(factPrefixes.adminToken.length);
    const hash = Buffer.from(String((value as AdminTokenFact | undefined)?.sha256 ?? ""), "hex");
    if (hash.length === 32) this.#ofNode.set(nodeId, hash);
    else this.#ofNode.delete(nodeId);
  }
}
