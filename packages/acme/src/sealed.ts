/**
 * Private keys in cluster state, which every host and the bus's disks have a copy of: encrypted (AES-256-GCM) with a key
 * derived from one secret of the region, and bound to what they are for, so that none can be put in another's place.
 */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import { HearthError } from "@hearth/errors";

const cipherName = "aes-256-gcm";
const nonceBytes = 12;
const tagBytes = 16;
const secretBytes = 32;

/** Hex. */
export const newSealingSecret = (): string => randomBytes(secretBytes).toString("hex");

function keyOf(secretHex: string): Buffer {
  const secret = Buffer.from(secretHex.trim(), "hex");
  if (secret.length !== secretBytes)
    throw new HearthError("invalid_argument", {
      message: "The secret that keys are sealed with is damaged.",
    });
  return Buffer.from(hkdfSync("sha256", secret, "", "hearth certificate keys", 32));
}

/** @param purpose what it is for; it opens for nothing else */
export function sealWith(secretHex: string, purpose: string, text: string): string {
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv(cipherName, keyOf(secretHex), nonce).setAAD(Buffer.from(purpose));
  const sealed = Buffer.concat([nonce, cipher.update(text, "utf8"), cipher.final(), cipher.getAuthTag()]);
  return sealed.toString("base64");
}

/** Undefined when it was sealed with another secret, or for something else. */
export function openSealed(secretHex: string, purpose: string, sealed: string): string | undefined {
  const bytes = Buffer.from(sealed, "base64");
  if (bytes.length < nonceBytes + tagBytes) return undefined;
  const nonce = bytes.subarray(0, nonceBytes);
  const decipher = createDecipheriv(cipherName, keyOf(secretHex), nonce, { authTagLength: tagBytes });
  decipher.setAAD(Buffer.from(purpose)).setAuthTag(bytes.subarray(-tagBytes));
  try {
    const text = decipher.update(bytes.subarray(nonceBytes, -tagBytes));
    return Buffer.concat([text, decipher.final()]).toString("utf8");
  } catch {
    return undefined;
  }
}
