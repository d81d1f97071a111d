/**
 * The facts of a replica as its reader gets them. Most are held in memory, by the first token of their key, so that
 * a list costs what its own kind of fact costs and not what the region does. Kinds of which there is one a machine
 * stay on disk: a million records of JavaScript objects are gigabytes, and a reader of one wants one. Memory then
 * holds of them what the reader's own index keeps.
 */
import type { ReplicaFact, ReplicaStore } from "./replica-store.ts";

const kindOf = (key: string): string => {
  const dot = key.indexOf(".");
  return dot < 0 ? key : key.slice(0, dot);
};

export class FactShelf {
  readonly #onDisk: readonly string[];
  readonly #kinds = new Map<string, Map<string, ReplicaFact>>();
  #store: ReplicaStore | undefined;

  /** @param onDisk prefixes that end with a dot, such as `machine.` */
  constructor(onDisk: readonly string[]) {
    this.#onDisk = onDisk;
  }

  open(store: ReplicaStore): void {
    this.#store = store;
    for (const fact of store.facts()) this.put(fact);
  }

  close(): void {
    this.#store = undefined;
  }

  /** What is on disk has been saved there by now. */
  put(fact: ReplicaFact): void {
    if (this.#isOnDisk(fact.key)) return;
    const kind = kindOf(fact.key);
    const facts = this.#kinds.get(kind) ?? new Map<string, ReplicaFact>();
    if (facts.size === 0) this.#kinds.set(kind, facts);
    facts.set(fact.key, fact);
  }

  /** Also one that was deleted, which has a revision and no value. */
  get(key: string): ReplicaFact | undefined {
    if (this.#isOnDisk(key)) return this.#store?.get(key);
    return this.#kinds.get(kindOf(key))?.get(key);
  }

  /** Facts with a value, by key. */
  list(prefix: string): ReplicaFact[] {
    if (this.#isOnDisk(prefix)) return [...(this.#store?.scan(prefix, { byKey: true }) ?? [])];
    const below = this.#onDisk.filter((kind) => kind.startsWith(prefix));
    const found = [
      ...[...this.#inMemory(prefix)].filter(({ value }) => value !== undefined),
      ...below.flatMap((kind) => [...(this.#store?.scan(kind, { byKey: false }) ?? [])]),
    ];
    return found.sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  /** The same in no order, one after another, so that a million of them are never there together. */
  scan(prefix: string): Iterable<ReplicaFact> {
    return this.#isOnDisk(prefix) ? (this.#store?.scan(prefix, { byKey: false }) ?? []) : this.list(prefix);
  }

  /** What is on disk has been deleted there by now. */
  delete(key: string): void {
    this.#kinds.get(kindOf(key))?.delete(key);
  }

  /** The stream has nothing after this revision; on disk that is so by now. */
  lose(cut: number): void {
    for (const facts of this.#kinds.values())
      for (const [key, fact] of facts) if (fact.revision > cut) facts.set(key, { ...fact, revision: 0 });
  }

  *#inMemory(prefix: string): Iterable<ReplicaFact> {
    const kinds = prefix.includes(".") ? [this.#kinds.get(kindOf(prefix))] : this.#kinds.values();
    for (const facts of kinds)
      for (const fact of facts?.values() ?? []) if (fact.key.startsWith(prefix)) yield fact;
  }

  #isOnDisk(key: string): boolean {
    return this.#onDisk.some((prefix) => key.startsWith(prefix));
  }
}
