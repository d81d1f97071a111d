/**
 * Names that a guest is allowed to reach. Before an answer goes to the guest, its addresses are in the guest's sets of
 * the firewall, for as long as the answer holds; a guest that asks somebody else has nothing opened. They are members
 * that the kernel lets expire, keyed by the guest's own address, so they need neither this process nor the worker: what
 * a process that starts finds there, it takes for its own.
 *
 * A guest to which no address is open by its number is not answered about other names at all: questions reach whoever
 * serves the name, so they would be a way out.
 */
import { setTimeout as delay } from "node:timers/promises";
import {
  covers,
  heedsNames,
  mayAsk,
  type NameElement,
  type NetworkExecutor,
  nameElements,
} from "@hearth/network";
import type { Logger } from "@hearth/telemetry";
import type { EgressGuest, EgressGuests } from "./egress-guests.ts";
import type { Metrics } from "./metrics.ts";
import { toldAddresses } from "./told-addresses.ts";

export interface NameGateDeps {
  readonly nodeId: string;
  readonly guests: EgressGuests;
  readonly network: Pick<NetworkExecutor, "allowNames" | "listNames" | "removeElements">;
  readonly metrics: Pick<Metrics, "namesOpened" | "namesRefused" | "nameFailures">;
  readonly logger: Pick<Logger, "warn">;
  readonly monotonicMs?: () => number;
  readonly maxPerGuest?: number;
}

/** What is open to a guest beyond it is closed again, that first which would expire first. */
const defaultMaxPerGuest = 512;
/** A connection is made a while after the answer. */
const graceSeconds = 30;
const changeLimitMs = 3_000;
const retryMs = 1_000;
const retries = 30;

interface Opened {
  readonly element: NameElement;
  readonly expiresAtMs: number;
  /** For which it was opened; none of what an earlier process has opened. */
  readonly names: readonly string[];
}

export class NameGate {
  readonly #deps: NameGateDeps;
  readonly #opened = new Map<string, Map<string, Opened>>();
  readonly #stopping = new AbortController();
  readonly #closing = new Set<Promise<void>>();

  constructor(deps: NameGateDeps) {
    this.#deps = deps;
    deps.guests.onChange = (id) => this.#closeLater(id);
  }

  /** Takes over what an earlier process has opened, and closes what is nobody's. */
  async start(): Promise<void> {
    const { guests, logger, nodeId, network } = this.#deps;
    try {
      const there = await network.listNames(nodeId, AbortSignal.timeout(changeLimitMs));
      const strange: NameElement[] = [];
      for (const element of there) {
        const guest = guests.at(element.value.split(" ")[0] ?? "");
        if (guest === undefined || !heedsNames(guest.policy)) strange.push(element);
        else this.#note(guest.id, [element], undefined);
      }
      if (strange.length > 0)
        await network.removeElements(nodeId, strange, AbortSignal.timeout(changeLimitMs));
    } catch (error) {
      // They expire by themselves, and names are opened as before.
      logger.warn({ err: error }, "what was open to guests by name could not be read");
    }
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.allSettled(this.#closing);
  }

  /**
   * What is to become of a question.
   * @param labels in lower case
   */
  judge(address: string, labels: readonly string[]): "pass" | "refuse" | EgressGuest {
    const guest = this.#deps.guests.at(address);
    if (guest === undefined) return "pass";
    const name = nameOf(labels);
    if (!mayAsk(guest.policy, name)) {
      this.#deps.metrics.namesRefused += 1;
      return "refuse";
    }
    const isAllowed = guest.policy.allow.some(
      ({ target }) => target.kind === "domain" && covers(target.domain, name),
    );
    return isAllowed && heedsNames(guest.policy) ? guest : "pass";
  }

  /** Whether the guest may have the answer: what it says is open by then. */
  async open(guest: EgressGuest, labels: readonly string[], answer: Buffer): Promise<boolean> {
    const { guests, logger, metrics, network, nodeId } = this.#deps;
    const name = nameOf(labels);
    const told = { name, addresses: toldAddresses(answer, name) };
    const elements = nameElements(guest.addresses, guest.policy, told);
    const wanted = elements.filter((element) => this.#isSoonClosed(guest.id, element, told.addresses));
    if (wanted.length === 0) return true;
    try {
      await network.allowNames(nodeId, wanted, AbortSignal.timeout(changeLimitMs));
      metrics.namesOpened += wanted.length;
      const beyond = this.#note(guest.id, wanted, name);
      if (beyond.length > 0) await network.removeElements(nodeId, beyond, AbortSignal.timeout(changeLimitMs));
    } catch (error) {
      metrics.nameFailures += 1;
      logger.warn({ err: error, machine_id: guest.id, name }, "a name could not be opened to a guest");
      return false;
    }
    // What it may send may have changed meanwhile.
    if (guests.find(guest.id) !== guest) this.#closeLater(guest.id);
    return true;
  }

  #isSoonClosed(id: string, element: NameElement, addresses: readonly { ttlSeconds: number }[]): boolean {
    const opened = this.#opened.get(id)?.get(keyOf(element));
    if (opened === undefined) return true;
    const longest = Math.max(graceSeconds, ...addresses.map(({ ttlSeconds }) => ttlSeconds));
    return opened.expiresAtMs - this.#now < Math.min(longest, element.seconds) * 1_000;
  }

  /** Answers what is too much and has to go. */
  #note(id: string, elements: readonly NameElement[], name: string | undefined): NameElement[] {
    const opened = this.#opened.get(id) ?? new Map<string, Opened>();
    this.#opened.set(id, opened);
    const now = this.#now;
    for (const [key, { expiresAtMs }] of opened) if (expiresAtMs <= now) opened.delete(key);
    for (const element of elements) {
      const key = keyOf(element);
      const others = (opened.get(key)?.names ?? []).filter((one) => one !== name).slice(-7);
      const names = name === undefined ? others : [...others, name];
      opened.set(key, { element, expiresAtMs: now + element.seconds * 1_000, names });
    }
    const { maxPerGuest = defaultMaxPerGuest } = this.#deps;
    if (opened.size <= maxPerGuest) return [];
    const fresh = new Set(elements.map(keyOf));
    const oldest = [...opened]
      .filter(([key]) => !fresh.has(key))
      .sort(([, a], [, b]) => a.expiresAtMs - b.expiresAtMs)
      .slice(0, opened.size - maxPerGuest);
    for (const [key] of oldest) opened.delete(key);
    return oldest.map(([, { element }]) => element);
  }

  /** Closes what the guest's policy of now does not allow. */
  #closeLater(id: string): void {
    if (!this.#opened.has(id)) return;
    const closing = this.#close(id).finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }

  async #close(id: string): Promise<void> {
    const { logger, network, nodeId } = this.#deps;
    const { signal } = this.#stopping;
    for (let attempt = 1; !signal.aborted && attempt <= retries; attempt += 1) {
      const opened = this.#opened.get(id);
      if (opened === undefined) return;
      const gone = [...opened.values()].filter((one) => !this.#isAllowed(id, one));
      try {
        if (gone.length > 0)
          await network.removeElements(
            nodeId,
            gone.map(({ element }) => element),
            AbortSignal.any([signal, AbortSignal.timeout(changeLimitMs)]),
          );
        for (const one of gone) {
          const key = keyOf(one.element);
          if (opened.get(key) === one) opened.delete(key);
        }
        if (opened.size === 0) this.#opened.delete(id);
        return;
      } catch (error) {
        logger.warn(
          { err: error, machine_id: id },
          "names of a guest could not be closed; it is tried again",
        );
        await delay(retryMs, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  #isAllowed(id: string, { element, names }: Opened): boolean {
    const guest = this.#deps.guests.find(id);
    if (guest === undefined || !heedsNames(guest.policy)) return false;
    const [source = "", , address = ""] = element.value.split(" ").filter((word) => word !== "");
    if (source !== guest.addresses.v4 && source !== guest.addresses.v6) return false;
    const family = address.includes(":") ? 6 : 4;
    const addresses = [{ address, family, ttlSeconds: 0 }] as const;
    return names.some((name) =>
      nameElements(guest.addresses, guest.policy, { name, addresses }).some(
        (one) => keyOf(one) === keyOf(element),
      ),
    );
  }

  get #now(): number {
    return (this.#deps.monotonicMs ?? (() => performance.now()))();
  }
}

const keyOf = ({ set, value }: NameElement): string => `${set} ${value}`;

/** A dot within a label is none between two, and no policy can name it. */
const nameOf = (labels: readonly string[]): string =>
  labels.some((label) => label.includes(".")) ? "" : labels.join(".");
