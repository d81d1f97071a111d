/** A certificate with its issuers and its key, as somebody uploads it or an authority sends it: what it is, and whether it is fit to be shown. */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { createSecureContext } from "node:tls";
import { HearthError } from "@hearth/errors";

export interface CheckedChain {
  /** PEM, the leaf first, and nothing else. */
  readonly chain: string;
  readonly not_before_ms: number;
  readonly not_after_ms: number;
  readonly issuer: string;
  readonly serial: string;
  /** Of the leaf's key. */
  readonly key_type: "ecdsa" | "rsa";
}

const maxCertificates = 8;
const pemBlock = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g;

/** What a chain says of itself. @throws HearthError `certificate_invalid` */
export function describeChain(fullchain: string): CheckedChain & { readonly leaf: X509Certificate } {
  const blocks = fullchain.match(pemBlock) ?? [];
  if (blocks.length === 0)
    throw invalid("there is no certificate in it; send PEM, the one of the host first");
  if (blocks.length > maxCertificates) throw invalid(`it has more than ${maxCertificates} certificates`);
  const certificates = blocks.map((block) => {
    try {
      return new X509Certificate(block);
    } catch {
      throw invalid("one of its blocks is no certificate");
    }
  });
  const [leaf] = certificates;
  if (leaf === undefined) throw invalid("there is no certificate in it");
  for (const [at, certificate] of certificates.entries()) {
    const issuer = certificates[at + 1];
    if (issuer === undefined) break;
    if (!certificate.checkIssued(issuer) || !certificate.verify(issuer.publicKey))
      throw invalid(
        `certificate ${at + 2} of it has not signed certificate ${at + 1}; send the one of the host first, then each one's issuer`,
      );
  }
  const { asymmetricKeyType } = leaf.publicKey;
  return {
    leaf,
    chain: `${blocks.join("\n")}\n`,
    not_before_ms: Date.parse(leaf.validFrom),
    not_after_ms: Date.parse(leaf.validTo),
    issuer: issuerOf(leaf),
    serial: leaf.serialNumber.toLowerCase(),
    key_type: asymmetricKeyType === "rsa" || asymmetricKeyType === "rsa-pss" ? "rsa" : "ecdsa",
  };
}

export interface Upload {
  readonly hostname: string;
  readonly fullchain: string;
  readonly privateKey: string;
}

/** Whether all of it fits together, and the name, and the day. @throws HearthError `certificate_invalid` */
export function checkChain({ hostname, fullchain, privateKey }: Upload, nowMs: number): CheckedChain {
  const { leaf, ...described } = describeChain(fullchain);
  const key = readKey(privateKey);
  if (leaf.ca) throw invalid("the first certificate is one of an authority; send the one of the host first");
  if (!leaf.checkPrivateKey(key)) throw invalid("the key is not the one of the first certificate");
  if (leaf.checkHost(hostname, { subject: "never" }) === undefined)
    throw invalid(`it is for ${namesOf(leaf)} and not for ${hostname}`);
  if (nowMs >= described.not_after_ms) throw invalid(`it expired on ${dateOf(described.not_after_ms)}`);
  if (nowMs < described.not_before_ms)
    throw invalid(`it is not valid before ${dateOf(described.not_before_ms)}`);
  try {
    createSecureContext({ cert: described.chain, key: privateKey });
  } catch (cause) {
    throw invalid("TLS does not take it, as its key or its signature is too weak or unknown", cause);
  }
  return described;
}

function readKey(pem: string): KeyObject {
  if (/ENCRYPTED/.test(pem)) throw invalid("the key is encrypted; send it without a passphrase");
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    throw invalid("the key is no private key in PEM");
  }
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  if (type === "rsa" && (details?.modulusLength ?? 0) >= 2048) return key;
  if (type === "ec" && ["prime256v1", "secp384r1", "secp521r1"].includes(details?.namedCurve ?? ""))
    return key;
  throw invalid(
    "the key is of a kind that clients do not take; use ECDSA (P-256, P-384) or RSA of 2048 bits or more",
  );
}

const issuerOf = ({ issuer }: X509Certificate): string => {
  const field = (name: string) => new RegExp(`^${name}=(.*)$`, "m").exec(issuer)?.[1];
  return [field("O"), field("CN")].filter((part) => part !== undefined).join(" ") || "unnamed";
};

const namesOf = ({ subjectAltName = "" }: X509Certificate): string =>
  subjectAltName
    .split(", ")
    .map((each) => each.replace(/^DNS:/, ""))
    .join(", ")
    .slice(0, 300) || "no name";
const dateOf = (ms: number): string => new Date(ms).toISOString();

const invalid = (why: string, cause?: unknown): HearthError =>
  new HearthError("certificate_invalid", {
    message: `The certificate is refused: ${why}.`,
    ...(cause === undefined ? {} : { cause }),
  });
