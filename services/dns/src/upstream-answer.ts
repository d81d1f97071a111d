/**
 * What an upstream resolver sent, read so far as is needed to keep it and send it on: whether it answers our question,
 * how long it holds, and where its TTLs are. Names are stepped over, never followed. Its additional records are left
 * out, as a stub has no use for them and an OPT record concerns two neighbours only.
 */
import { skipName } from "./question.ts";
import { flagBits, headerBytes, rcodes, recordTypes } from "./wire.ts";

export interface UpstreamAnswer {
  readonly rcode: number;
  readonly isTruncated: boolean;
  /** What stands after the question, of answers and authority. */
  readonly records: Buffer;
  readonly answers: number;
  readonly authority: number;
  /** Where in `records` there is a TTL. */
  readonly ttlOffsets: readonly number[];
  readonly ttlSeconds: number;
}

const maxTtlSeconds = 3_600;
const maxNegativeTtlSeconds = 60;
/** A failure is kept for a moment, so that a broken domain is not asked for again and again (RFC 9520). */
const failureTtlSeconds = 5;
const maxRecords = 4_096;

/**
 * Undefined for what is no answer to this question.
 * @param question what was sent after the header
 */
export function readUpstreamAnswer(
  message: Buffer,
  id: number,
  question: Buffer,
): UpstreamAnswer | undefined {
  const end = headerBytes + question.length;
  if (message.length < end || message.readUInt16BE(0) !== id) return undefined;
  const flags = message.readUInt16BE(2);
  const isAnswer = (flags & flagBits.response) !== 0 && message.readUInt16BE(4) === 1;
  if (!isAnswer || !question.equals(message.subarray(headerBytes, end))) return undefined;
  const isTruncated = (flags & flagBits.truncated) !== 0;
  const rcode = flags & flagBits.rcode;
  const counts = { answers: message.readUInt16BE(6), authority: message.readUInt16BE(8) };
  const none = { records: Buffer.alloc(0), answers: 0, authority: 0, ttlOffsets: [] };
  if (isTruncated) return { rcode, isTruncated, ...none, ttlSeconds: 0 };
  if (rcode !== rcodes.noError && rcode !== rcodes.nameError)
    return { rcode, isTruncated, ...none, ttlSeconds: failureTtlSeconds };
  const walked = walkRecords(message, end, counts);
  if (walked === undefined) return undefined;
  const isNegative = rcode === rcodes.nameError || counts.answers === 0;
  const limit = isNegative ? maxNegativeTtlSeconds : maxTtlSeconds;
  const ttl = isNegative ? (walked.negativeTtl ?? 0) : walked.ttl;
  return {
    ...{ rcode, isTruncated, ...counts },
    records: Buffer.from(message.subarray(end, walked.end)),
    ttlOffsets: walked.ttlOffsets,
    ttlSeconds: Math.min(ttl, limit),
  };
}

interface Walked {
  readonly end: number;
  readonly ttlOffsets: number[];
  readonly ttl: number;
  /** As the SOA says (RFC 2308 section 5); without one nothing is kept. */
  readonly negativeTtl: number | undefined;
}

function walkRecords(
  message: Buffer,
  from: number,
  { answers, authority }: { readonly answers: number; readonly authority: number },
): Walked | undefined {
  if (answers + authority > maxRecords) return undefined;
  const ttlOffsets: number[] = [];
  let at = from;
  let ttl = maxTtlSeconds;
  let negativeTtl: number | undefined;
  for (let record = 0; record < answers + authority; record += 1) {
    const nameEnd = skipName(message, at);
    if (nameEnd === undefined || nameEnd + 10 > message.length) return undefined;
    // One with its highest bit set is 0 (RFC 2181 section 8).
    const own = message.readInt32BE(nameEnd + 4);
    const next = nameEnd + 10 + message.readUInt16BE(nameEnd + 8);
    if (next > message.length) return undefined;
    ttlOffsets.push(nameEnd + 4 - from);
    ttl = Math.min(ttl, Math.max(0, own));
    if (message.readUInt16BE(nameEnd) === recordTypes.SOA && next - nameEnd >= 10 + 22)
      negativeTtl = Math.max(0, Math.min(own, message.readInt32BE(next - 4)));
    at = next;
  }
  return { end: at, ttlOffsets, ttl, negativeTtl };
}
