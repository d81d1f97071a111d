/**
 * The memory in which datagrams lie, one a slot: those that came in, and those that go out. A native part may share
 * it, and then `datagrams/src/memory.rs` says the same of how it is laid out.
 *
 * Addresses are as the kernel has them (`sockaddr_in`, `sockaddr_in6`), so that one that only goes back is never read.
 * Bytes begin at whole words, so that a question can be compared by the word.
 */

/** As many are taken from the kernel at once. */
export const slots = 32;
/**
 * No query over UDP is larger that means well: a name has at most 255 bytes, and clients pad to 128 (RFC 8467). Answers
 * end at 1,232 bytes.
 */
export const slotBytes = 2_048;
export const addressWords = 8;
const slotWords = slotBytes / 4;
const laneBytes = slots * (4 + 4 * addressWords + slotBytes);
export const memoryBytes = 2 * laneBytes;

export interface Lane {
  /** What came in may say more than `slotBytes`: it was longer than its slot, and was cut. */
  readonly lengths: Int32Array;
  readonly addresses: Int32Array;
  readonly words: Int32Array;
  readonly bytes: Buffer;
}

export interface Lanes {
  readonly incoming: Lane;
  readonly outgoing: Lane;
}

export const lanesOf = (memory: ArrayBuffer): Lanes => ({
  incoming: laneOf(memory, 0),
  outgoing: laneOf(memory, laneBytes),
});

export const addressAt = (slot: number): number => slot * addressWords;
export const wordAt = (slot: number): number => slot * slotWords;
export const byteAt = (slot: number): number => slot * slotBytes;

function laneOf(memory: ArrayBuffer, at: number): Lane {
  const addressesAt = at + 4 * slots;
  const bytesAt = addressesAt + 4 * addressWords * slots;
  return {
    lengths: new Int32Array(memory, at, slots),
    addresses: new Int32Array(memory, addressesAt, addressWords * slots),
    words: new Int32Array(memory, bytesAt, slotWords * slots),
    bytes: Buffer.from(memory, bytesAt, slotBytes * slots),
  };
}
