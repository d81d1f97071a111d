/**
 * What a query asks, read once at the border. A query has one question, no pointer in its name, and at most one OPT
 * record; whatever else it is, it is told by a code or not at all, and nothing after this looks at its bytes again
 * but to send the question back as it came.
 */
import {
  classIn,
  flagBits,
  headerBytes,
  maxNameBytes,
  maxUdpBytes,
  plainUdpBytes,
  type Rcode,
  rcodes,
  recordTypes,
} from "./wire.ts";

export interface Edns {
  /** What the client takes over UDP, within the limits of both. */
  readonly udpBytes: number;
  readonly dnssecOk: boolean;
  /** It carries options, such as a cookie, and so is hardly asked again in the same bytes. */
  readonly hasOptions: boolean;
}

export interface Query {
  /** Begins with the 12 bytes of the header and the question as they came. */
  readonly message: Buffer;
  readonly id: number;
  readonly recursionDesired: boolean;
  readonly checkingDisabled: boolean;
  /** In lower case, the leftmost first; none for the root. */
  readonly labels: readonly string[];
  readonly type: number;
  /** Where the question ends in the message. */
  readonly end: number;
  readonly edns: Edns | undefined;
}

/** Undefined is for what gets no answer, as no answer could be told from a query. */
export type Reading =
  | { readonly kind: "query"; readonly query: Query }
  | { readonly kind: "refused"; readonly rcode: Rcode; readonly edns: Edns | undefined }
  | undefined;

const maxAdditionals = 4;

export function readQuery(message: Buffer): Reading {
  if (message.length < headerBytes) return undefined;
  const flags = message.readUInt16BE(2);
  if ((flags & flagBits.response) !== 0) return undefined;
  if ((flags & flagBits.opcode) !== 0) return refused(rcodes.notImplemented);
  const hasOneQuestion = message.readUInt16BE(4) === 1 && message.readUInt32BE(6) === 0;
  const additionals = message.readUInt16BE(10);
  if (!hasOneQuestion || additionals > maxAdditionals) return refused(rcodes.formatError);
  const name = readName(message);
  if (name === undefined) return refused(rcodes.formatError);
  const { labels, end: nameEnd } = name;
  const end = nameEnd + 4;
  if (end > message.length) return refused(rcodes.formatError);
  const extras = readAdditionals(message, end, additionals);
  if (extras === undefined) return refused(rcodes.formatError);
  const { edns, version } = extras;
  if (version > 0) return refused(rcodes.badVersion, edns);
  if (message.readUInt16BE(nameEnd + 2) !== classIn) return refused(rcodes.refused, edns);
  const query: Query = {
    message,
    id: message.readUInt16BE(0),
    recursionDesired: (flags & flagBits.recursionDesired) !== 0,
    checkingDisabled: (flags & flagBits.checkingDisabled) !== 0,
    labels,
    type: message.readUInt16BE(nameEnd),
    end,
    edns,
  };
  return { kind: "query", query };
}

const refused = (rcode: Rcode, edns?: Edns): Reading => ({ kind: "refused", rcode, edns });

function readName(message: Buffer): { readonly labels: string[]; readonly end: number } | undefined {
  const labels: string[] = [];
  let at = headerBytes;
  for (;;) {
    const length = message[at];
    // Also refuses pointers and the label types that nobody uses: their two upper bits are set.
    if (length === undefined || length > 63) return undefined;
    at += 1;
    if (at + length - headerBytes > maxNameBytes || at + length > message.length) return undefined;
    if (length === 0) return { labels, end: at };
    labels.push(lowerCase(message.toString("latin1", at, at + length)));
    at += length;
  }
}

/** ASCII only (RFC 4343): `toLowerCase` alone would make one name of two that differ in a byte above 127. */
const lowerCase = (text: string): string =>
  /[A-Z]/.test(text) ? text.replaceAll(/[A-Z]+/g, (upper) => upper.toLowerCase()) : text;

interface Additionals {
  readonly edns: Edns | undefined;
  readonly version: number;
}

/** Undefined when they are not what their count says, or name two OPT records. */
function readAdditionals(message: Buffer, from: number, count: number): Additionals | undefined {
  let at = from;
  let found: Additionals | undefined;
  for (let record = 0; record < count; record += 1) {
    const nameEnd = skipName(message, at);
    if (nameEnd === undefined || nameEnd + 10 > message.length) return undefined;
    const length = message.readUInt16BE(nameEnd + 8);
    const next = nameEnd + 10 + length;
    if (next > message.length) return undefined;
    if (message.readUInt16BE(nameEnd) === recordTypes.OPT) {
      if (found !== undefined || message[at] !== 0) return undefined;
      found = {
        version: message[nameEnd + 5] ?? 0,
        edns: {
          udpBytes: Math.min(maxUdpBytes, Math.max(plainUdpBytes, message.readUInt16BE(nameEnd + 2))),
          dnssecOk: ((message[nameEnd + 6] ?? 0) & 0x80) !== 0,
          hasOptions: length > 0,
        },
      };
    }
    at = next;
  }
  if (at !== message.length) return undefined;
  return found ?? { edns: undefined, version: 0 };
}

/** Where a name ends that may end in a pointer; pointers are never followed, so none can lead round in a circle. */
export function skipName(message: Buffer, from: number): number | undefined {
  for (let at = from; at - from <= maxNameBytes; ) {
    const length = message[at];
    if (length === undefined) return undefined;
    if (length === 0) return at + 1;
    if (length >= 0xc0) return at + 2;
    if (length > 63) return undefined;
    at += 1 + length;
  }
  return undefined;
}
