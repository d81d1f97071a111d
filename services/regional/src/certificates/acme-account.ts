/** The account of a region at its authority: made once, its key sealed in cluster state, so that every host can go on with any order. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import {
  type AccountKey,
  AcmeClient,
  type AcmeTransport,
  accountKeyOf,
  type ChallengeType,
  httpsTransport,
  newPrivateKey,
  openSealed,
  sealWith,
} from "@hearth/acme";
import { HearthError } from "@hearth/errors";
import { type AcmeAccountFact, factKeys, keyPurposes } from "@hearth/machine";
import { type WriteDeps, writeFact } from "../state/write-fact.ts";

export interface AcmeSettings {
  readonly directory: string;
  readonly email?: string | undefined;
  readonly ca_path?: string | undefined;
  readonly challenge?: ChallengeType | undefined;
  readonly eab?: { readonly kid: string; readonly key_path: string } | undefined;
}

export interface AccountDeps extends WriteDeps {
  readonly settings: AcmeSettings;
  readonly secret: string;
  readonly nowMs: () => number;
  /** The authority does not know the account that is kept: it is made again with its key. */
  readonly isForgotten?: boolean;
}

export interface Account {
  readonly client: AcmeClient;
  readonly key: AccountKey;
}

/** @throws HearthError `acme_refused`, `unavailable`, `host_requirement_missing` when a file of the settings is not there */
export async function openAccount(deps: AccountDeps, signal: AbortSignal): Promise<Account> {
  const { settings, secret, nowMs, view, isForgotten = false } = deps;
  const { directory, ca_path, eab, email } = settings;
  const trusted = ca_path === undefined ? undefined : readText("HEARTH_ACME_CA", ca_path);
  const transport: AcmeTransport = httpsTransport({ trusted });
  const open = (pem: string, accountUrl?: string): Account => {
    const key = accountKeyOf(pem);
    return { key, client: new AcmeClient({ directoryUrl: directory, transport, key, accountUrl, nowMs }) };
  };
  const key = factKeys.acmeAccount(createHash("sha256").update(directory).digest("hex"));
  const purpose = keyPurposes.account(directory);
  const kept = () => {
    const fact = view.replica.get(key)?.value as AcmeAccountFact | undefined;
    const pem = fact && openSealed(secret, purpose, fact.sealed_key);
    return fact === undefined || pem === undefined ? undefined : { pem, url: fact.url };
  };
  const known = kept();
  if (known !== undefined && !isForgotten) return open(known.pem, known.url);
  const pem = known?.pem ?? newPrivateKey();
  const made = open(pem);
  const external =
    eab === undefined
      ? undefined
      : { kid: eab.kid, hmacKey: readText("HEARTH_ACME_EAB_KEY_FILE", eab.key_path).trim() };
  const url = await made.client.register({ email, external }, signal);
  const value: AcmeAccountFact = {
    ...{ directory, url },
    sealed_key: sealWith(secret, purpose, pem),
    created_at_ms: nowMs(),
  };
  const expectedRevision = view.replica.get(key)?.revision ?? 0;
  await writeFact(deps, { key, value, expectedRevision }).catch((thrown: unknown) => {
    if (HearthError.from(thrown).code !== "conflict") throw thrown;
  });
  // Of two hosts that made one at once, the first one's is the region's.
  const agreed = kept();
  if (agreed !== undefined) return open(agreed.pem, agreed.url);
  throw new HearthError("unavailable", {
    message: "The account at the certificate authority is not there yet.",
  });
}

function readText(setting: string, path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new HearthError("host_requirement_missing", {
      message: `${setting}: ${path} cannot be read on this host; put the file there.`,
      cause,
    });
  }
}
