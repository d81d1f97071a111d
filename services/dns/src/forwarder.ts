/**
 * Public names, asked of the host's resolvers. One that was asked already and waits is waited for by all who ask it;
 * the resolver that answered last is asked first, and the next when it is silent, refuses or fails. What may wait at
 * once is bounded, for each asker and for all.
 */
import { HearthError } from "@hearth/errors";
import { ForwardCache } from "./forward-cache.ts";
import type { Metrics } from "./metrics.ts";
import type { Query } from "./question.ts";
import { encodeCode, optRecord } from "./response.ts";
import type { Source } from "./source-table.ts";
import type { UpstreamAnswer } from "./upstream-answer.ts";
import { askUpstream, type Upstream } from "./upstream-query.ts";
import { flagBits, headerBytes, type Rcode, rcodes } from "./wire.ts";

export interface ForwarderOptions {
  readonly upstreams: readonly Upstream[];
  readonly metrics: Metrics;
  readonly cache?: ForwardCache;
  readonly attemptMs?: number;
  /** Shorter than the 5 s after which libc gives a resolver up. */
  readonly totalMs?: number;
  readonly maxInFlight?: number;
}

const failed: UpstreamAnswer = {
  ...{ rcode: rcodes.serverFailure, isTruncated: false, records: Buffer.alloc(0) },
  ...{ answers: 0, authority: 0, ttlOffsets: [], ttlSeconds: 0 },
};

export class Forwarder {
  readonly #options: Required<ForwarderOptions>;
  readonly #waiting = new Map<string, Promise<UpstreamAnswer>>();
  #preferred = 0;

  constructor(options: ForwarderOptions) {
    const limits = { attemptMs: 1_200, totalMs: 4_500, maxInFlight: 512 };
    this.#options = { cache: new ForwardCache(), ...limits, ...options };
  }

  get inFlight(): number {
    return this.#waiting.size;
  }

  get cacheBytes(): number {
    return this.#options.cache.bytes;
  }

  /** Never rejects. @param maxBytes of the answer */
  answer(query: Query, source: Source, maxBytes: number): Buffer | Promise<Buffer> {
    const { cache, metrics, maxInFlight, upstreams } = this.#options;
    if (!query.recursionDesired) return encodeCode(query, rcodes.refused);
    const key = keyOf(query);
    const kept = cache.get(key);
    if (kept !== undefined) {
      metrics.forwardCacheHits += 1;
      return compose(query, kept.answer, kept.ageSeconds, maxBytes);
    }
    const waiting = this.#waiting.get(key);
    const isFull = waiting === undefined && this.#waiting.size >= maxInFlight;
    if (isFull || source.inFlight >= source.limits.inFlight) {
      metrics.overloaded += 1;
      return encodeCode(query, rcodes.serverFailure);
    }
    if (upstreams.length === 0) return encodeCode(query, rcodes.serverFailure);
    source.inFlight += 1;
    return (waiting ?? this.#start(key, query))
      .then((answer) => compose(query, answer, 0, maxBytes))
      .finally(() => {
        source.inFlight -= 1;
      });
  }

  #start(key: string, query: Query): Promise<UpstreamAnswer> {
    const { cache, metrics } = this.#options;
    metrics.forwarded += 1;
    const asking = this.#ask(query)
      .then((answer) => {
        if (answer === failed) metrics.upstreamFailures += 1;
        cache.put(key, answer);
        return answer;
      })
      .finally(() => this.#waiting.delete(key));
    this.#waiting.set(key, asking);
    return asking;
  }

  async #ask(query: Query): Promise<UpstreamAnswer> {
    const { upstreams, attemptMs, totalMs, metrics } = this.#options;
    const question = Buffer.from(query.message.subarray(headerBytes, query.end));
    lowerCaseName(question);
    const { checkingDisabled, edns } = query;
    const asked = { question, checkingDisabled, dnssecOk: edns?.dnssecOk === true };
    const endsAtMs = performance.now() + totalMs;
    const first = this.#preferred;
    let worst = failed;
    for (let attempt = 0; ; attempt += 1) {
      const leftMs = endsAtMs - performance.now();
      // Each resolver gets a second try: a datagram can be lost.
      if (leftMs < 50 || attempt >= 2 * upstreams.length) return worst;
      const index = (first + attempt) % upstreams.length;
      const upstream = upstreams[index];
      if (upstream === undefined) return worst;
      try {
        const answer = await askUpstream(upstream, asked, Math.min(attemptMs, leftMs));
        if (answer.rcode === rcodes.noError || answer.rcode === rcodes.nameError) {
          this.#preferred = index;
          return answer;
        }
        worst = answer;
        if (attempt + 1 >= upstreams.length) return worst;
      } catch (error) {
        if (HearthError.from(error).code === "deadline_exceeded") metrics.upstreamTimeouts += 1;
      }
    }
  }
}

/** The bytes of the name in lower case, so that one answer serves all spellings. */
function lowerCaseName(question: Buffer): void {
  for (let at = 0; at < question.length - 4; at += 1) {
    const byte = question[at] ?? 0;
    // Lengths of labels are below the letters.
    if (byte >= 0x41 && byte <= 0x5a) question[at] = byte | 0x20;
  }
}

const keyOf = ({ labels, type, edns, checkingDisabled }: Query): string =>
  `${type} ${edns?.dnssecOk === true ? 1 : 0}${checkingDisabled ? 1 : 0} ${labels.map((label) => `${label.length}.${label}`).join("")}`;

/** The question as this client wrote it; pointers into it lead to the same places, as its length is the same. */
function compose(query: Query, answer: UpstreamAnswer, ageSeconds: number, maxBytes: number): Buffer {
  const opt = query.edns === undefined ? Buffer.alloc(0) : optRecord(query.edns, answer.rcode as Rcode);
  const isTruncated = query.end + answer.records.length + opt.length > maxBytes;
  const records = isTruncated ? Buffer.alloc(0) : answer.records;
  const bytes = Buffer.concat([query.message.subarray(0, query.end), records, opt]);
  const asked = flagBits.recursionDesired | (query.checkingDisabled ? flagBits.checkingDisabled : 0);
  const cut = isTruncated ? flagBits.truncated : 0;
  bytes.writeUInt16BE(flagBits.response | flagBits.recursionAvailable | asked | cut | answer.rcode, 2);
  bytes.writeUInt16BE(isTruncated ? 0 : answer.answers, 6);
  bytes.writeUInt16BE(isTruncated ? 0 : answer.authority, 8);
  bytes.writeUInt16BE(opt.length > 0 ? 1 : 0, 10);
  if (ageSeconds > 0 && !isTruncated)
    for (const offset of answer.ttlOffsets) {
      const at = query.end + offset;
      bytes.writeUInt32BE(Math.max(0, bytes.readInt32BE(at) - ageSeconds), at);
    }
  return bytes;
}
