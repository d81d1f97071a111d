/**
 * From the bytes of a query to the bytes of its answer, for one asker. Private names are answered from what its
 * network sees, at once; what is private and unknown does not exist, and is never asked elsewhere. All other names
 * are the upstream resolvers', as far as the asker's egress policy lets it ask.
 */
import { type CachedAnswer, cachedAnswer } from "./answer-cache.ts";
import type { Forwarder } from "./forwarder.ts";
import type { Metrics } from "./metrics.ts";
import { answerPrivate, type NamesContext } from "./name-answers.ts";
import type { NameGate } from "./name-gate.ts";
import type { NameIndex } from "./name-index.ts";
import { zoneOf } from "./private-zones.ts";
import { type Query, readQuery } from "./question.ts";
import { encodeAnswer, encodeCode, encodeUnreadable, udpLimit } from "./response.ts";
import type { Source } from "./source-table.ts";
import { maxTcpBytes, rcodes } from "./wire.ts";

export interface ResolverOptions {
  readonly index: NameIndex;
  readonly forwarder: Forwarder;
  readonly metrics: Metrics;
  readonly gate?: Pick<NameGate, "judge" | "open">;
  readonly place: Pick<NamesContext, "nodeId" | "region" | "resolverAddress">;
}

export type Transport = "udp" | "tcp";
/** Nothing goes back to what is no query. */
export type Reply =
  | { readonly bytes: Buffer | Promise<Buffer>; readonly reusable?: CachedAnswer }
  | undefined;

export class Resolver {
  readonly #options: ResolverOptions;

  constructor(options: ResolverOptions) {
    this.#options = options;
  }

  reply(message: Buffer, source: Source, transport: Transport): Reply {
    const { index, metrics, place } = this.#options;
    const reading = readQuery(message);
    if (reading?.kind !== "query") {
      metrics.malformed += 1;
      return reading && { bytes: encodeUnreadable(message, reading.rcode, reading.edns) };
    }
    const { query } = reading;
    const maxBytes = transport === "udp" ? udpLimit(query) : maxTcpBytes;
    const zone = zoneOf(query.labels);
    if (zone === undefined) return { bytes: this.#public(query, source, maxBytes) };
    const { view } = source;
    const serial = view.version + index.version;
    const context: NamesContext = { ...place, view, serial, apiUrls: index.apiUrls() };
    const encoded = encodeAnswer(query, answerPrivate(query, zone, context), maxBytes);
    metrics.privateAnswers += 1;
    if (encoded.isTruncated) metrics.truncated += 1;
    // A cookie makes each query another one.
    const isReusable = query.edns?.hasOptions !== true;
    return { bytes: encoded.bytes, ...(isReusable ? { reusable: cachedAnswer(encoded) } : {}) };
  }

  #public(query: Query, source: Source, maxBytes: number): Buffer | Promise<Buffer> {
    const { forwarder, gate } = this.#options;
    const verdict = gate?.judge(source.address, query.labels) ?? "pass";
    // It does not say that there is no such name for a while: the policy may be another one in a moment.
    if (verdict === "refuse") return encodeCode(query, rcodes.nameError);
    const answer = forwarder.answer(query, source, maxBytes);
    if (verdict === "pass" || gate === undefined) return answer;
    return Promise.resolve(answer).then(async (bytes) =>
      (await gate.open(verdict, query.labels, bytes)) ? bytes : encodeCode(query, rcodes.serverFailure),
    );
  }

  /** For whoever is not answered: it learns only that. */
  refusal(message: Buffer): Buffer | undefined {
    const reading = readQuery(message);
    if (reading === undefined) return undefined;
    return reading.kind === "query"
      ? encodeCode(reading.query, rcodes.refused)
      : encodeUnreadable(message, reading.rcode, reading.edns);
  }
}
