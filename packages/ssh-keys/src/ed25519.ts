/**
 * Ed25519 keys as OpenSSH writes them (RFC 8709; PROTOCOL.key of OpenSSH for private ones). Other kinds of key are
 * refused: one kind has one way to be checked, and every OpenSSH since 6.5 has it.
 */
import { createPrivateKey, createPublicKey, type KeyObject, verify } from "node:crypto";
import { HearthError } from "@hearth/errors";
import { string, uint32, WireReader } from "./wire.ts";

export const keyType = "ssh-ed25519";
const keyBytes = 32;
/** What PKCS #8 puts before the 32 bytes of a seed (RFC 8410, section 7). */
const pkcs8Head = Buffer.from("302e020100300506032b657004220420", "hex");

const invalidKey = (): HearthError =>
  new HearthError("invalid_argument", {
    message: "public_key: give an Ed25519 key as in a .pub file; `ssh-keygen -t ed25519` makes one.",
    details: { field: "public_key" },
  });

export const privateKeyOf = (seed: Uint8Array): KeyObject =>
  createPrivateKey({ key: Buffer.concat([pkcs8Head, seed]), format: "der", type: "pkcs8" });

/** The 32 bytes of the public half. */
export function publicBytes(key: KeyObject): Buffer {
  const { x = "" } = createPublicKey(key).export({ format: "jwk" });
  return Buffer.from(x, "base64url");
}

/** The public key as SSH sends it. */
export const keyBlob = (publicKey: Uint8Array): Buffer => Buffer.concat([string(keyType), string(publicKey)]);

/** Undefined for a key of another kind. */
export function keyInBlob(blob: Uint8Array): Buffer | undefined {
  const reader = new WireReader(blob);
  if (reader.text() !== keyType) return undefined;
  const key = reader.string();
  return key.length === keyBytes && reader.isAtEnd ? key : undefined;
}

export const publicKeyLine = (publicKey: Uint8Array): string =>
  `${keyType} ${keyBlob(publicKey).toString("base64")}`;

/** Of the key that the seed makes. */
export const ed25519PublicLine = (seed: Uint8Array): string => publicKeyLine(publicBytes(privateKeyOf(seed)));

/** Of a line as in a .pub file. @throws HearthError `invalid_argument` */
export function parsePublicKeyLine(line: string): Buffer {
  const [type, base64 = ""] = line.trim().split(/[ \t]+/);
  if (type !== keyType) throw invalidKey();
  try {
    const key = keyInBlob(Buffer.from(base64, "base64"));
    if (key !== undefined) return key;
  } catch {
    // Told below.
  }
  throw invalidKey();
}

/** @param signature the raw 64 bytes */
export function verifyBytes(publicKey: Uint8Array, data: Uint8Array, signature: Uint8Array): boolean {
  const x = Buffer.from(publicKey).toString("base64url");
  const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
  return verify(null, data, key, signature);
}

/** @param signature as SSH sends it: the name of the algorithm, and the bytes */
export function checkSignature(publicKey: Uint8Array, data: Uint8Array, signature: Uint8Array): boolean {
  try {
    const reader = new WireReader(signature);
    const isOurs = reader.text() === keyType;
    const bytes = reader.string();
    return isOurs && reader.isAtEnd && verifyBytes(publicKey, data, bytes);
  } catch {
    return false;
  }
}

/** The text of a private key file without a passphrase. */
export function openSshPrivateKey(seed: Uint8Array, comment: string): string {
  const publicKey = publicBytes(privateKeyOf(seed));
  // Two equal numbers tell a reader that the right passphrase was used; there is none.
  const secret = Buffer.concat([
    ...[uint32(0), uint32(0), string(keyType), string(publicKey)],
    ...[string(Buffer.concat([seed, publicKey])), string(comment)],
  ]);
  const padding = Buffer.from(Array.from({ length: (8 - (secret.length % 8)) % 8 }, (_, index) => index + 1));
  const bytes = Buffer.concat([
    ...[Buffer.from("openssh-key-v1\0"), string("none"), string("none"), string(""), uint32(1)],
    ...[string(keyBlob(publicKey)), string(Buffer.concat([secret, padding]))],
  ]);
  const lines = bytes.toString("base64").replaceAll(/.{70}/g, "$&\n").trimEnd();
  return `-----BEGIN OPENSSH PRIVATE KEY-----\n${lines}\n-----END OPENSSH PRIVATE KEY-----\n`;
}
