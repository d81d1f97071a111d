/**
 * The private keys of this host in the mesh: each made here, in a file that root alone may read, and never sent
 * anywhere. The name of the file says which epoch and UDP port the key is for, so that it says the same after a restart.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync } from "node:crypto";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { OwnEnd } from "@hearth/network";
import { makeDirectory, writeWhole } from "./node-identity.ts";

const directoryOf = (dataDir: string): string => join(dataDir, "credentials", "mesh");
const namePattern = /^(\d{1,7})\.(\d{1,5})\.key$/;
/** What comes before the 32 bytes of an X25519 key in PKCS #8 (RFC 8410). */
const pkcs8Head = Buffer.from("302e020100300506032b656e04220420", "hex");

/** By epoch. A file that holds no key is as good as none: another is made, and peers are told. */
export function readMeshKeys(dataDir: string): OwnEnd[] {
  const directory = directoryOf(dataDir);
  makeDirectory(directory, 0o700);
  return readdirSync(directory)
    .flatMap((name) => {
      const [, epoch, port] = namePattern.exec(name) ?? [];
      if (epoch === undefined) return [];
      const keyPath = join(directory, name);
      const publicKey = publicKeyOf(readFileSync(keyPath, "utf8").trim());
      return publicKey === undefined
        ? []
        : [{ epoch: Number(epoch), port: Number(port), publicKey, keyPath }];
    })
    .sort((a, b) => a.epoch - b.epoch);
}

/** On disk when it returns. */
export function addMeshKey(dataDir: string, { epoch, port }: Pick<OwnEnd, "epoch" | "port">): OwnEnd {
  const { privateKey, publicKey } = generateKeyPairSync("x25519");
  const { d = "" } = privateKey.export({ format: "jwk" });
  const keyPath = join(directoryOf(dataDir), `${epoch}.${port}.key`);
  writeWhole(keyPath, `${Buffer.from(d, "base64url").toString("base64")}\n`, 0o600);
  const { x = "" } = publicKey.export({ format: "jwk" });
  return { epoch, port, keyPath, publicKey: Buffer.from(x, "base64url").toString("base64") };
}

export function dropMeshKey({ keyPath }: Pick<OwnEnd, "keyPath">): void {
  rmSync(keyPath, { force: true });
}

function publicKeyOf(text: string): string | undefined {
  const raw = Buffer.from(text, "base64");
  if (raw.length !== 32) return undefined;
  const key = createPrivateKey({ key: Buffer.concat([pkcs8Head, raw]), format: "der", type: "pkcs8" });
  const { x = "" } = createPublicKey(key).export({ format: "jwk" });
  return Buffer.from(x, "base64url").toString("base64");
}
