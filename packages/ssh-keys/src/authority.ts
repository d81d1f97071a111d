/**
 * All keys of the SSH gateways of a region, derived from one secret (HKDF, RFC 5869): the host key, which is so the
 * same on every host; the key that signs certificates; and the one that seals the token in a certificate. One secret is
 * one thing to hand to a host that joins. It gives no access by itself: that takes a token, which the API signs.
 */
import { hkdfSync, type KeyObject, randomBytes } from "node:crypto";
import { HearthError } from "@hearth/errors";
import { privateKeyOf, publicBytes } from "./ed25519.ts";

const secretBytes = 32;

export interface SshAuthority {
  /** Of the key that signs certificates. */
  readonly publicKey: Buffer;
  readonly signer: KeyObject;
  readonly hostSeed: Buffer;
  readonly hostPublicKey: Buffer;
  readonly sealingKey: Buffer;
}

/** Hex. */
export const newAuthoritySecret = (): string => randomBytes(secretBytes).toString("hex");

/** @throws HearthError `invalid_argument` */
export function authorityOf(secretHex: string): SshAuthority {
  const secret = Buffer.from(secretHex.trim(), "hex");
  if (secret.length !== secretBytes)
    throw new HearthError("invalid_argument", { message: "The secret of the SSH gateways is damaged." });
  const derive = (purpose: string): Buffer =>
    Buffer.from(hkdfSync("sha256", secret, "", `hearth ssh ${purpose}`, 32));
  const signer = privateKeyOf(derive("certificates"));
  const hostSeed = derive("host key");
  return {
    publicKey: publicBytes(signer),
    signer,
    hostSeed,
    hostPublicKey: publicBytes(privateKeyOf(hostSeed)),
    sealingKey: derive("tokens"),
  };
}
