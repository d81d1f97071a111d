/**
 * DNS over UDP. A question that was answered before costs two look-ups and a copy: it is neither read nor encoded,
 * and neither a promise nor a text is made for it. What that is worth, `npm run bench -- dns` tells.
 */
import { writeAnswer } from "./answer-cache.ts";
import type { Datagrams, OpenDatagrams } from "./datagrams/datagrams.ts";
import { addressAt, addressWords, byteAt, slotBytes, slots, wordAt } from "./datagrams/lanes.ts";
import { AddressMap, addressText } from "./datagrams/socket-address.ts";
import type { Metrics } from "./metrics.ts";
import type { Resolver } from "./resolver.ts";
import type { Source, SourceTable } from "./source-table.ts";

export interface ServerDeps {
  readonly resolver: Resolver;
  readonly sources: SourceTable;
  readonly metrics: Metrics;
}

/** A burst of all guests waits here rather than in front of a full queue. */
const receiveBufferBytes = 4 * 1024 * 1024;
const refusalsPerSecond = 100;
const maxKnownSources = 16_384;

export class UdpServer {
  readonly #deps: ServerDeps;
  readonly #open: OpenDatagrams;
  readonly #known = new AddressMap<Source>(maxKnownSources);
  #datagrams: Datagrams | undefined;
  /** Slots that are filled and not yet sent. */
  #queued = 0;
  #refusalsLeft = refusalsPerSecond;
  #refusalsAtMs = 0;

  constructor(deps: ServerDeps, open: OpenDatagrams) {
    this.#deps = deps;
    this.#open = open;
  }

  /** Resolves with the port. @throws what `bind` says */
  async start(address: string, port: number): Promise<number> {
    const handler = {
      received: (count: number) => this.#receive(count),
      lost: (count: number) => {
        this.#deps.metrics.sendErrors += count;
      },
    };
    this.#datagrams = await this.#open({ address, port, receiveBufferBytes, handler });
    return this.#datagrams.port;
  }

  async stop(): Promise<void> {
    await this.#datagrams?.close();
  }

  #receive(count: number): void {
    const datagrams = this.#datagrams;
    if (datagrams === undefined) return;
    this.#deps.metrics.udpQueries += count;
    try {
      for (let slot = 0; slot < count; slot += 1) this.#take(datagrams, slot);
    } finally {
      this.#flush(datagrams);
    }
  }

  #take(datagrams: Datagrams, slot: number): void {
    const { sources, metrics, resolver } = this.#deps;
    const { lengths, addresses, words, bytes } = datagrams.incoming;
    const length = lengths[slot] ?? 0;
    if (length > slotBytes) {
      metrics.malformed += 1;
      return;
    }
    const from = addressAt(slot);
    const source = this.#sourceOf(addresses, from);
    if (source === undefined) {
      this.#refuse(datagrams, slot, length);
      return;
    }
    if (!sources.spend(source)) {
      metrics.limited += 1;
      return;
    }
    const { cache } = source;
    const start = byteAt(slot);
    // The slot's last use may have left something behind the message.
    for (let at = start + length; (at & 3) !== 0; at += 1) bytes[at] = 0;
    const question = { words, at: wordAt(slot), length };
    const cached = cache.get(question);
    if (cached !== undefined) {
      const { outgoing } = datagrams;
      const to = this.#nextSlot(datagrams, addresses, from);
      outgoing.lengths[to] = writeAnswer(cached, outgoing, to, (words[question.at] ?? 0) & 0xffff);
      metrics.cachedAnswers += 1;
      this.#count(outgoing.bytes, byteAt(to));
      return;
    }
    // Whoever makes an answer may hold the message until it has one.
    const message = Buffer.from(bytes.subarray(start, start + length));
    const reply = resolver.reply(message, source, "udp");
    if (reply === undefined) return;
    if (reply.reusable !== undefined) cache.put(question, reply.reusable);
    if (!(reply.bytes instanceof Promise)) {
      this.#answer(datagrams, reply.bytes, addresses, from);
      return;
    }
    const asker = addresses.slice(from, from + addressWords);
    void reply.bytes.then((late) => {
      this.#answer(datagrams, late, asker, 0);
      this.#flush(datagrams);
    });
  }

  #sourceOf(addresses: Int32Array, at: number): Source | undefined {
    const { sources } = this.#deps;
    const known = this.#known.get(addresses, at);
    if (known !== undefined && sources.holds(known)) return known;
    const source = sources.find(addressText(addresses, at));
    if (source !== undefined) this.#known.set(addresses, at, source);
    return source;
  }

  #refuse(datagrams: Datagrams, slot: number, length: number): void {
    this.#deps.metrics.refusedSources += 1;
    const now = performance.now();
    if (now - this.#refusalsAtMs > 1_000) {
      this.#refusalsAtMs = now;
      this.#refusalsLeft = refusalsPerSecond;
    }
    if (this.#refusalsLeft <= 0) return;
    this.#refusalsLeft -= 1;
    const { addresses, bytes } = datagrams.incoming;
    const refusal = this.#deps.resolver.refusal(bytes.subarray(byteAt(slot), byteAt(slot) + length));
    if (refusal !== undefined) this.#answer(datagrams, refusal, addresses, addressAt(slot));
  }

  #answer(datagrams: Datagrams, answer: Buffer, addresses: Int32Array, at: number): void {
    if (answer.length > slotBytes) {
      this.#deps.metrics.sendErrors += 1;
      return;
    }
    const { lengths, bytes } = datagrams.outgoing;
    const slot = this.#nextSlot(datagrams, addresses, at);
    answer.copy(bytes, byteAt(slot));
    lengths[slot] = answer.length;
    this.#count(bytes, byteAt(slot));
  }

  /** A slot that goes to this address when all are sent. */
  #nextSlot(datagrams: Datagrams, from: Int32Array, at: number): number {
    if (this.#queued === slots) this.#flush(datagrams);
    const slot = this.#queued;
    this.#queued += 1;
    const { addresses } = datagrams.outgoing;
    const to = addressAt(slot);
    for (let word = 0; word < addressWords; word += 1) addresses[to + word] = from[at + word] ?? 0;
    return slot;
  }

  #count(bytes: Buffer, at: number): void {
    const { responses } = this.#deps.metrics;
    const code = (bytes[at + 3] ?? 0) & 0x0f;
    responses[code] = (responses[code] ?? 0) + 1;
  }

  #flush(datagrams: Datagrams): void {
    const count = this.#queued;
    this.#queued = 0;
    if (count > 0) datagrams.send(count);
  }
}
