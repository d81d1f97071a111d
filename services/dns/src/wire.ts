/** Numbers of the DNS wire format (RFC 1035 section 4, RFC 6891) that more than one module here needs. */

export const headerBytes = 12;
export const maxNameBytes = 255;
export const maxTcpBytes = 65_535;
/** What every resolver takes over UDP (RFC 1035 section 4.2.1). */
export const plainUdpBytes = 512;
/** What passes every path without fragments (RFC 9715); nothing larger is sent over UDP, whatever a client offers. */
export const maxUdpBytes = 1_232;

export const recordTypes = {
  A: 1,
  NS: 2,
  SOA: 6,
  PTR: 12,
  HINFO: 13,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  ANY: 255,
} as const;
export const classIn = 1;

export const rcodes = {
  noError: 0,
  formatError: 1,
  serverFailure: 2,
  nameError: 3,
  notImplemented: 4,
  refused: 5,
  badVersion: 16,
} as const;
export type Rcode = (typeof rcodes)[keyof typeof rcodes];

export const flagBits = {
  response: 0x8000,
  opcode: 0x7800,
  authoritative: 0x0400,
  truncated: 0x0200,
  recursionDesired: 0x0100,
  recursionAvailable: 0x0080,
  checkingDisabled: 0x0010,
  rcode: 0x000f,
} as const;
