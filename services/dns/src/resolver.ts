/**
 * From the bytes of a query to the bytes of its answer, for one asker. Private names are answered from what its
 * network sees, at once; what is private and unknown does not exist, and is never asked elsewhere. All other names
 * are the upstream resolvers'.
 */
import { type CachedAnswer, cachedAnswer } from "./answer-cache.ts";
import type { Forwarder } from "./forwarder.ts";
import type { Metrics } from "./metrics.ts";
import { answerPrivate, type NamesContext } from "./name-answers.ts";
import type { NameIndex } from "./name-index.ts";
import { zoneOf } from "./private-zones.ts";
import { readQuery } from "./question.ts";
import { encodeAnswer, encodeCode, encodeUnreadable, udpLimit } from "./response.ts";
import type { Source } from "./source-table.ts";
import { maxTcpBytes, rcodes } from "./wire.ts";

export interface ResolverOptions {
  readonly index: NameIndex;
  readonly forwarder: Forwarder;
  readonly metrics: Metrics;
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
    const { index, forwarder, metrics, place } = this.#options;
    const reading = readQuery(message);
    if (reading?.kind !== "query") {
      metrics.malformed += 1;
      return reading && { bytes: encodeUnreadable(message, reading.rcode, reading.edns) };
    }
    const { query } = reading;
    const maxBytes = transport === "udp" ? udpLimit(query) : maxTcpBytes;
    const zone = zoneOf(query.labels);
    if (zone === undefined) return { bytes: forwarder.answer(query, source, maxBytes) };
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

  /** For whoever is not answered: it learns only that. */
  refusal(message: Buffer): Buffer | undefined {
    const reading = readQuery(message);
    if (reading === undefined) return undefined;
    return reading.kind === "query"
      ? encodeCode(reading.query, rcodes.refused)
      : encodeUnreadable(message, reading.rcode, reading.edns);
  }
}
