/**
 * Identities of machines. One branded string an entity, so that a machine id never stands where an
 * instance id belongs. Randomness and time are arguments: the same inputs give the same id.
 */
import { HearthError } from "@hearth/errors";

/** A machine for as long as it lives: 14 lower-case hex digits. */
export type MachineId = string & { readonly __brand: "MachineId" };
/** One version of a machine, renewed at each update: a ULID (https://github.com/ulid/spec). */
export type InstanceId = string & { readonly __brand: "InstanceId" };

/** Fills as many random bytes as it is asked for. */
export type RandomBytes = (length: number) => Uint8Array;
export type ClockMs = () => number;

const machineIdPattern = /^[0-9a-f]{14}$/;
// A ULID has 130 bits in text for 128 of value, so its first digit is at most 7.
const instanceIdPattern = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/;
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const ulidTimeLimit = 2 ** 48;

export const isMachineId = (text: string): text is MachineId => machineIdPattern.test(text);
export const isInstanceId = (text: string): text is InstanceId => instanceIdPattern.test(text);

/** @throws HearthError `invalid_argument` */
export function parseMachineId(text: string): MachineId {
  if (isMachineId(text)) return text;
  throw new HearthError("invalid_argument", {
    message: "A machine id is 14 lower-case hex digits; check the id.",
    details: { field: "machine_id" },
  });
}

/** @throws HearthError `invalid_argument` */
export function parseInstanceId(text: string): InstanceId {
  if (isInstanceId(text)) return text;
  throw new HearthError("invalid_argument", {
    message: "An instance id is a ULID of 26 characters; check the id.",
    details: { field: "instance_id" },
  });
}

export function newMachineId(randomBytes: RandomBytes): MachineId {
  return Buffer.from(randomBytes(7)).toString("hex") as MachineId;
}

/** 48 bits of milliseconds, then 80 random bits; ids of later milliseconds sort later as text. */
export function newInstanceId(randomBytes: RandomBytes, nowMs: ClockMs): InstanceId {
  const time = Math.floor(nowMs());
  if (!(time >= 0 && time < ulidTimeLimit)) throw new RangeError(`no ULID for the time ${time}`);
  const random = Buffer.from(randomBytes(10)).toString("hex");
  let value = (BigInt(time) << 80n) | BigInt(`0x${random}`);
  let text = "";
  for (let digit = 0; digit < 26; digit += 1) {
    text = crockford.charAt(Number(value & 31n)) + text;
    value >>= 5n;
  }
  return text as InstanceId;
}

/** The milliseconds since 1970 in which the instance id was made. */
export function instanceIdTimeMs(id: InstanceId): number {
  let time = 0;
  for (const character of id.slice(0, 10)) time = time * 32 + crockford.indexOf(character);
  return time;
}
