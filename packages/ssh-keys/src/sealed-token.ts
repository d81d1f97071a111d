/**
 * The API token in a certificate. A client shows its certificate to every server that it connects to, so the token is
 * encrypted (AES-256-GCM), and bound to the key that the certificate is for.
 */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import type { SshAuthority } from "./authority.ts";

const cipherName = "aes-256-gcm";
const nonceBytes = 12;
const tagBytes = 16;

export function sealToken(authority: SshAuthority, publicKey: Uint8Array, token: string): Buffer {
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv(cipherName, authority.sealingKey, nonce).setAAD(publicKey);
  return Buffer.concat([nonce, cipher.update(token, "utf8"), cipher.final(), cipher.getAuthTag()]);
}

/** Undefined when it was sealed by another region or for another key. */
export function openToken(
  authority: SshAuthority,
  publicKey: Uint8Array,
  sealed: Uint8Array,
): string | undefined {
  if (sealed.length < nonceBytes + tagBytes) return undefined;
  const nonce = sealed.subarray(0, nonceBytes);
  const decipher = createDecipheriv(cipherName, authority.sealingKey, nonce, { authTagLength: tagBytes });
  decipher.setAAD(publicKey).setAuthTag(sealed.subarray(-tagBytes));
  try {
    const text = decipher.update(sealed.subarray(nonceBytes, -tagBytes));
    return Buffer.concat([text, decipher.final()]).toString("utf8");
  } catch {
    return undefined;
  }
}
