/**
 * Answers as bytes. The question goes back byte for byte, so that a client that mixes the case of its letters to tell
 * forgeries (draft-vixie-dnsext-dns0x20) finds it; names of records point into it and are therefore in the same case.
 * What does not fit is left out as a whole and the answer marked as cut, so that the client asks again over TCP.
 */
import dnsPacket from "dns-packet";
import type { Edns, Query } from "./question.ts";
import {
  classIn,
  flagBits,
  headerBytes,
  maxUdpBytes,
  plainUdpBytes,
  type Rcode,
  rcodes,
  recordTypes,
} from "./wire.ts";

export interface AnswerRecord {
  /** The question's own name, that many of its last labels, or another name. */
  readonly owner: "question" | { readonly lastLabels: number } | { readonly name: string };
  readonly type: number;
  readonly ttl: number;
  /** With the two bytes of its length. */
  readonly rdata: Uint8Array;
}

export interface Answer {
  readonly rcode: Rcode;
  readonly answers: readonly AnswerRecord[];
  readonly authority: readonly AnswerRecord[];
  readonly additional: readonly AnswerRecord[];
}

/** Its types leave the codecs of single parts out. */
const codecs = dnsPacket as unknown as {
  record(type: string): { encode(data: unknown): Uint8Array };
  readonly name: { encode(name: string): Uint8Array };
};

/** With the two bytes of its length. @throws what is no data of the type */
export const rdata = (
  type: "A" | "AAAA" | "NS" | "PTR" | "TXT" | "SRV" | "SOA" | "HINFO",
  data: unknown,
): Uint8Array => codecs.record(type).encode(data);

export interface Encoded {
  readonly bytes: Buffer;
  readonly isTruncated: boolean;
  /** Where the answers begin and end, and how long each is; 0 when they differ. */
  readonly answersAt: number;
  readonly answersEnd: number;
  readonly recordBytes: number;
}

export function encodeAnswer(query: Query, answer: Answer, maxBytes: number): Encoded {
  const records = answer.answers.map((record) => encodeRecord(query, record));
  const authority = answer.authority.map((record) => encodeRecord(query, record));
  const additional = answer.additional.map((record) => encodeRecord(query, record));
  const opt = query.edns === undefined ? [] : [optRecord(query.edns, answer.rcode)];
  const flags = flagBits.response | flagBits.authoritative | flagBits.recursionAvailable;
  const size = (parts: readonly Uint8Array[]): number => parts.reduce((sum, { length }) => sum + length, 0);
  const needed = query.end + size(records) + size(authority) + size(opt);
  const isTruncated = needed > maxBytes;
  // What only helps may be missing without a word (RFC 2181 section 9).
  const helping = isTruncated || needed + size(additional) > maxBytes ? [] : additional;
  const kept = isTruncated ? [] : records;
  const proof = isTruncated ? [] : authority;
  const head = header(query, {
    flags: flags | (isTruncated ? flagBits.truncated : 0),
    rcode: answer.rcode,
    counts: [kept.length, proof.length, helping.length + opt.length],
  });
  const bytes = Buffer.concat([head, ...kept, ...proof, ...helping, ...opt]);
  const [first] = kept;
  const recordBytes = kept.every(({ length }) => length === first?.length) ? (first?.length ?? 0) : 0;
  return { bytes, isTruncated, answersAt: query.end, answersEnd: query.end + size(kept), recordBytes };
}

/** An answer with no record in it: a refusal, or a failure. */
export function encodeCode(query: Query, rcode: Rcode): Buffer {
  const opt = query.edns === undefined ? [] : [optRecord(query.edns, rcode)];
  const flags = flagBits.response | flagBits.recursionAvailable;
  return Buffer.concat([header(query, { flags, rcode, counts: [0, 0, opt.length] }), ...opt]);
}

/** To what could not be read: only its header goes back (RFC 1035 section 4.1.1). */
export function encodeUnreadable(message: Buffer, rcode: Rcode, edns: Edns | undefined): Buffer {
  const head = Buffer.alloc(headerBytes);
  message.copy(head, 0, 0, 2);
  const asked = message.readUInt16BE(2) & (flagBits.opcode | flagBits.recursionDesired);
  head.writeUInt16BE(flagBits.response | asked | (rcode & flagBits.rcode), 2);
  const opt = edns === undefined ? [] : [optRecord(edns, rcode)];
  head.writeUInt16BE(opt.length, 10);
  return Buffer.concat([head, ...opt]);
}

/** How large an answer may be that goes back over UDP. */
export const udpLimit = ({ edns }: Query): number => edns?.udpBytes ?? plainUdpBytes;

interface Head {
  readonly flags: number;
  readonly rcode: Rcode;
  readonly counts: readonly [answers: number, authority: number, additional: number];
}

function header(query: Query, { flags, rcode, counts }: Head): Buffer {
  const head = Buffer.allocUnsafe(query.end);
  query.message.copy(head, 0, 0, query.end);
  const asked =
    (query.recursionDesired ? flagBits.recursionDesired : 0) |
    (query.checkingDisabled ? flagBits.checkingDisabled : 0);
  head.writeUInt16BE(flags | asked | (rcode & flagBits.rcode), 2);
  head.writeUInt16BE(1, 4);
  counts.forEach((count, index) => {
    head.writeUInt16BE(count, 6 + 2 * index);
  });
  return head;
}

/** Ours, in every answer to a query that has one (RFC 6891 section 6.1.1). */
export function optRecord({ dnssecOk }: Edns, rcode: Rcode = rcodes.noError): Buffer {
  const opt = Buffer.alloc(11);
  opt.writeUInt16BE(recordTypes.OPT, 1);
  opt.writeUInt16BE(maxUdpBytes, 3);
  opt.writeUInt8(rcode >> 4, 5);
  if (dnssecOk) opt.writeUInt8(0x80, 7);
  return opt;
}

function encodeRecord(query: Query, { owner, type, ttl, rdata: data }: AnswerRecord): Buffer {
  const name = encodeOwner(query, owner);
  const fixed = Buffer.alloc(8);
  fixed.writeUInt16BE(type, 0);
  fixed.writeUInt16BE(classIn, 2);
  fixed.writeUInt32BE(ttl, 4);
  return Buffer.concat([name, fixed, data]);
}

function encodeOwner(query: Query, owner: AnswerRecord["owner"]): Uint8Array {
  if (owner !== "question" && "name" in owner) return codecs.name.encode(owner.name);
  const skipped = owner === "question" ? 0 : query.labels.length - owner.lastLabels;
  const before = query.labels.slice(0, skipped).reduce((sum, { length }) => sum + 1 + length, 0);
  const pointer = Buffer.alloc(2);
  pointer.writeUInt16BE(0xc000 | (headerBytes + before));
  return pointer;
}
