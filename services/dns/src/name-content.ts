/** Records of the kinds that private names have. */
import { isIPv4, isIPv6 } from "node:net";
import { type AnswerRecord, rdata } from "./response.ts";
import { recordTypes as types } from "./wire.ts";

export const ttlSeconds = 5;
/** A string of a TXT record holds so many bytes; a reader puts them together. */
const maxStringBytes = 255;
/** Leaves room for the rest of an answer, also over TCP. */
const maxTextBytes = 60_000;

/** What a name has. A name that exists for what lies below it has no records. */
export interface NameContent {
  readonly records: readonly AnswerRecord[];
  readonly additional?: readonly AnswerRecord[];
}

/** Undefined for what is no address. */
export function addressRecord(
  address: string,
  owner: AnswerRecord["owner"] = "question",
): AnswerRecord | undefined {
  if (isIPv6(address)) return { owner, type: types.AAAA, ttl: ttlSeconds, rdata: rdata("AAAA", address) };
  if (isIPv4(address)) return { owner, type: types.A, ttl: ttlSeconds, rdata: rdata("A", address) };
  return undefined;
}

export const addressContent = (addresses: readonly string[]): NameContent => ({
  records: addresses.flatMap((address) => addressRecord(address) ?? []),
});

/** One TXT record of a list, of ASCII; a list that is too long ends after a whole item. */
export function textRecords(items: readonly string[], separator: "," | ";"): AnswerRecord[] {
  const text = items.join(separator);
  const whole = text.length <= maxTextBytes ? text : text.slice(0, text.lastIndexOf(separator, maxTextBytes));
  const strings = whole.match(new RegExp(`.{1,${maxStringBytes}}`, "gs"));
  if (strings === null) return [];
  return [{ owner: "question", type: types.TXT, ttl: ttlSeconds, rdata: rdata("TXT", strings) }];
}
