/**
 * OpenSSH user certificates of Ed25519 keys (PROTOCOL.certkeys of OpenSSH): written, and read with every check that
 * can be made without knowing who asks. A certificate carries a sealed API token: what its holder may do is said by
 * the token and nowhere else, so it lists no principals, and the gateway is the only server that accepts it.
 */
import { randomBytes, sign } from "node:crypto";
import type { SshAuthority } from "./authority.ts";
import { keyBlob, keyInBlob, keyType, verifyBytes } from "./ed25519.ts";
import { string, uint32, uint64, WireReader } from "./wire.ts";

export const certificateType = "ssh-ed25519-cert-v01@openssh.com";
const userType = 1;
const tokenExtension = "token@hearth";
/** A token has 8 KiB at most, and is sealed. */
const maxCertificateBytes = 16 * 1024;
const nonceBytes = 32;

export interface CertificateWish {
  /** The 32 bytes of the user's key. */
  readonly publicKey: Uint8Array;
  /** For people and the audit: nothing is decided by it. */
  readonly keyId: string;
  readonly validFromMs: number;
  readonly validUntilMs: number;
  readonly sealedToken: Uint8Array;
}

export interface Certificate {
  readonly publicKey: Buffer;
  readonly keyId: string;
  readonly validUntilMs: number;
  readonly sealedToken: Buffer;
}

/** Why it does not count. `malformed` is also said of certificates that are not for this gateway. */
export type Refused = "malformed" | "other_authority" | "expired" | "not_yet_valid";

/** The line of a -cert.pub file. */
export function signCertificate(authority: SshAuthority, wish: CertificateWish): string {
  const extensions: readonly (readonly [string, Uint8Array])[] = [
    ["permit-port-forwarding", Buffer.alloc(0)],
    ["permit-pty", Buffer.alloc(0)],
    [tokenExtension, string(wish.sealedToken)],
  ];
  const signed = Buffer.concat([
    ...[string(certificateType), string(randomBytes(nonceBytes)), string(wish.publicKey)],
    ...[uint64(0n), uint32(userType), string(wish.keyId), string("")],
    ...[seconds(wish.validFromMs), seconds(wish.validUntilMs)],
    string(""),
    string(Buffer.concat(extensions.flatMap(([name, data]) => [string(name), string(data)]))),
    ...[string(""), string(keyBlob(authority.publicKey))],
  ]);
  const signature = Buffer.concat([string(keyType), string(sign(null, signed, authority.signer))]);
  const blob = Buffer.concat([signed, string(signature)]);
  return `${certificateType} ${blob.toString("base64")} ${wish.keyId}`;
}

/** Whether it is whole, signed by the authority, for a user, and valid now. */
export function parseCertificate(
  blob: Uint8Array,
  { authority, nowMs, toleranceMs }: { authority: SshAuthority; nowMs: number; toleranceMs: number },
): Certificate | Refused {
  if (blob.length > maxCertificateBytes) return "malformed";
  try {
    const read = readFields(blob);
    if (read === undefined) return "malformed";
    if (!authority.publicKey.equals(read.signer)) return "other_authority";
    if (!verifyBytes(authority.publicKey, read.signed, read.signature)) return "other_authority";
    if (read.validFromMs > nowMs + toleranceMs) return "not_yet_valid";
    return read.certificate.validUntilMs + toleranceMs <= nowMs ? "expired" : read.certificate;
  } catch {
    return "malformed";
  }
}

function readFields(blob: Uint8Array) {
  const reader = new WireReader(blob);
  if (reader.text() !== certificateType) return undefined;
  reader.string();
  const publicKey = reader.string();
  reader.uint64();
  const type = reader.uint32();
  const keyId = reader.text();
  reader.string();
  const validFromMs = Number(reader.uint64()) * 1000;
  const validUntilMs = Number(reader.uint64()) * 1000;
  const critical = reader.string();
  const sealedToken = extensionIn(reader.string(), tokenExtension);
  reader.string();
  const signer = keyInBlob(reader.string());
  const signed = blob.subarray(0, reader.position);
  const signatureReader = new WireReader(reader.string());
  const isOurs = signatureReader.text() === keyType;
  const signature = signatureReader.string();
  // Whoever does not know a critical option must refuse (PROTOCOL.certkeys), and we write none.
  const isWhole = reader.isAtEnd && signatureReader.isAtEnd && isOurs && type === userType;
  if (!isWhole || critical.length > 0 || signer === undefined || sealedToken === undefined) return undefined;
  return {
    signer,
    signed,
    signature,
    validFromMs,
    certificate: { publicKey, keyId, validUntilMs, sealedToken },
  };
}

function extensionIn(packed: Buffer, wanted: string): Buffer | undefined {
  const reader = new WireReader(packed);
  let found: Buffer | undefined;
  while (!reader.isAtEnd) {
    const name = reader.text();
    const data = reader.string();
    if (name === wanted) found = new WireReader(data).string();
  }
  return found;
}

const seconds = (ms: number): Buffer => uint64(BigInt(Math.floor(ms / 1000)));
