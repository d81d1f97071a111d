/** Where the region has the certificates of custom domains from, as an operator says it. Nothing said: no ACME. */
import { resolve } from "node:path";
import { HearthError } from "@hearth/errors";

export interface AcmeSettings {
  readonly directory: string;
  readonly email?: string;
  /** Absolute. */
  readonly ca_path?: string;
  readonly challenge?: "http-01" | "tls-alpn-01";
  readonly eab?: { readonly kid: string; readonly key_path: string };
}

/** @throws HearthError `invalid_argument` naming the setting */
export function readAcmeSettings(env: NodeJS.ProcessEnv): AcmeSettings | undefined {
  const said = (name: string): string | undefined => env[name] || undefined;
  const directory = said("HEARTH_ACME_DIRECTORY");
  if (directory === undefined) return undefined;
  if (!/^https:\/\/[^\s]+$/.test(directory))
    throw invalid("HEARTH_ACME_DIRECTORY", `"${directory}" is no URL that begins with https://`);
  const email = said("HEARTH_ACME_EMAIL");
  if (email !== undefined && !/^[^\s@,]+@[^\s@,]+$/.test(email))
    throw invalid("HEARTH_ACME_EMAIL", `"${email}" is no address of mail`);
  const challenge = said("HEARTH_ACME_CHALLENGE");
  if (challenge !== undefined && challenge !== "http-01" && challenge !== "tls-alpn-01")
    throw invalid("HEARTH_ACME_CHALLENGE", "use http-01 or tls-alpn-01");
  const caPath = said("HEARTH_ACME_CA");
  const kid = said("HEARTH_ACME_EAB_KID");
  const keyPath = said("HEARTH_ACME_EAB_KEY_FILE");
  if ((kid === undefined) !== (keyPath === undefined))
    throw invalid("HEARTH_ACME_EAB_KID", "it goes with HEARTH_ACME_EAB_KEY_FILE; set both or none");
  return {
    directory,
    ...(email === undefined ? {} : { email }),
    ...(caPath === undefined ? {} : { ca_path: resolve(caPath) }),
    ...(challenge === undefined ? {} : { challenge }),
    ...(kid === undefined || keyPath === undefined ? {} : { eab: { kid, key_path: resolve(keyPath) } }),
  };
}

/** The variables by which `readAcmeSettings` of another process gets the same. */
export function acmeEnvironment(settings: AcmeSettings | undefined): Record<string, string> {
  return {
    HEARTH_ACME_DIRECTORY: settings?.directory ?? "",
    HEARTH_ACME_EMAIL: settings?.email ?? "",
    HEARTH_ACME_CA: settings?.ca_path ?? "",
    HEARTH_ACME_CHALLENGE: settings?.challenge ?? "",
    HEARTH_ACME_EAB_KID: settings?.eab?.kid ?? "",
    HEARTH_ACME_EAB_KEY_FILE: settings?.eab?.key_path ?? "",
  };
}

const invalid = (setting: string, reason: string): HearthError =>
  new HearthError("invalid_argument", { message: `${setting}: ${reason}.`, details: { field: setting } });
