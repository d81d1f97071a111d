/**
 * The key with which the API of this host signs tokens. It is made once, lies in the directory of this service with
 * mode 0600, and never leaves the host; others check with its public half, which is a fact. Its name (kid) is its
 * thumbprint (RFC 7638), so that nobody can claim the name for another key.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { chmodSync, linkSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { HearthError } from "@hearth/errors";
import { calculateJwkThumbprint } from "jose";

export interface SigningKey {
  readonly kid: string;
  readonly x: string;
  readonly privateKey: KeyObject;
}

export const signingKeyFile = "signing-key.pem";

/** @throws HearthError `invalid_argument` when the file is there and holds no such key */
export async function readSigningKey(directory: string): Promise<SigningKey> {
  const path = join(directory, signingKeyFile);
  const pem = readIfThere(path) ?? makeKey(path);
  chmodSync(path, 0o600);
  const privateKey = parseKey(path, pem);
  const { x = "" } = createPublicKey(privateKey).export({ format: "jwk" });
  return { kid: await kidOf(x), x, privateKey };
}

export const kidOf = (x: string): Promise<string> =>
  calculateJwkThumbprint({ kty: "OKP", crv: "Ed25519", x }, "sha256");

/** Linked into place, so that it is whole or not there, and of two processes at once one makes it. */
function makeKey(path: string): string {
  const { privateKey } = generateKeyPairSync("ed25519");
  const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  const temporary = `${path}.${process.pid}`;
  try {
    writeFileSync(temporary, pem, { mode: 0o600, flush: true });
    linkSync(temporary, path);
    return pem;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    return readFileSync(path, "utf8");
  } finally {
    rmSync(temporary, { force: true });
  }
}

function parseKey(path: string, pem: string): KeyObject {
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType === "ed25519") return key;
  } catch {
    // Told below. A new key in its place would refuse all tokens that this host has issued, so none is made.
  }
  throw new HearthError("invalid_argument", {
    message: `${path} holds no Ed25519 key; restore it, or remove it: then the tokens issued on this host are void.`,
  });
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
