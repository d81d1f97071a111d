/**
 * Key pairs of a node, as NATS has them (NKeys: Ed25519 to log in, X25519 to seal). A seed is a file that its owner
 * alone may read; it is on no command line, in no message and in no fact. What others know is the public key.
 */
import {
  chmodSync,
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { HearthError } from "@hearth/errors";
import { createCurve, createUser, fromCurveSeed, fromSeed, type KeyPair } from "@nats-io/nkeys";

/** Makes the key when there is none; keeps its file private in any case. Returns the public key. */
export function ensureUserKey(path: string): string {
  return ensureKey(path, () => createUser().getSeed(), readUserKey);
}

/** A key that others can seal messages to. */
export function ensureSealKey(path: string): string {
  return ensureKey(path, () => createCurve().getSeed(), readSealKey);
}

/** @throws HearthError `host_requirement_missing` when there is none, `invalid_argument` when it is damaged */
export function readSeed(path: string): Uint8Array {
  try {
    return new TextEncoder().encode(readFileSync(path, "utf8").trim());
  } catch (cause) {
    throw new HearthError("host_requirement_missing", {
      message: `There is no key at ${path}; \`hearth up\` and \`hearth join\` make the keys of a host.`,
      cause,
    });
  }
}

/** To one reader, who also learns that it came from the owner of this key. */
export function seal(sealKeyPath: string, message: string, recipient: string): string {
  const sealed = readSealKey(sealKeyPath).seal(new TextEncoder().encode(message), recipient);
  return Buffer.from(sealed).toString("base64");
}

/** Undefined when it was sealed for another key, or by another sender. */
export function unseal(sealKeyPath: string, sealed: string, sender: string): string | undefined {
  const opened = readSealKey(sealKeyPath).open(Buffer.from(sealed, "base64"), sender);
  return opened === null ? undefined : new TextDecoder().decode(opened);
}

const readUserKey = (path: string): KeyPair => parse(path, fromSeed);
const readSealKey = (path: string) => parse(path, fromCurveSeed);

function parse<T>(path: string, from: (seed: Uint8Array) => T): T {
  const seed = readSeed(path);
  try {
    return from(seed);
  } catch (cause) {
    throw new HearthError("invalid_argument", {
      message: `${path} holds no key; put back a copy of it, or remove the host from its region and join it anew.`,
      cause,
    });
  }
}

function ensureKey(path: string, make: () => Uint8Array, read: (path: string) => KeyPair): string {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  writeNew(path, make());
  chmodSync(path, 0o600);
  return read(path).getPublicKey();
}

/** Whole or not at all, and never over a key that is there. */
function writeNew(path: string, seed: Uint8Array): void {
  const temporary = `${path}.${process.pid}`;
  const file = openSync(temporary, "w", 0o600);
  try {
    writeSync(file, seed);
    fsyncSync(file);
    linkSync(temporary, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    closeSync(file);
    rmSync(temporary, { force: true });
  }
}
