/** Keys, and requests that are signed with them: RFC 7515 with ES256, as RFC 8555 6.2 wants it. */
import {
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
} from "node:crypto";

export interface AccountKey {
  readonly privateKey: KeyObject;
  readonly jwk: { readonly crv: string; readonly kty: string; readonly x: string; readonly y: string };
  /** RFC 7638, base64url. */
  readonly thumbprint: string;
}

/** PEM (PKCS #8) of a new key on P-256, which every client of today takes. */
export const newPrivateKey = (): string =>
  generateKeyPairSync("ec", {
    namedCurve: "P-256",
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  }).privateKey;

export function accountKeyOf(pem: string): AccountKey {
  const privateKey = createPrivateKey(pem);
  const { x = "", y = "" } = createPublicKey(privateKey).export({ format: "jwk" });
  // The members in the order that the thumbprint is made over.
  const jwk = { crv: "P-256", kty: "EC", x, y };
  const thumbprint = createHash("sha256").update(JSON.stringify(jwk)).digest("base64url");
  return { privateKey, jwk, thumbprint };
}

/** What proves, where the name leads, that the owner of the account has it: RFC 8555 8.1. */
export const keyAuthorization = (token: string, { thumbprint }: AccountKey): string =>
  `${token}.${thumbprint}`;

export interface Signed {
  readonly key: AccountKey;
  /** Of the account; its key is sent when there is none. */
  readonly kid: string | undefined;
  readonly nonce: string;
  readonly url: string;
  /** Undefined reads (POST as GET). */
  readonly payload: object | undefined;
}

export function signedBody({ key, kid, nonce, url, payload }: Signed): string {
  const header = { alg: "ES256", nonce, url, ...(kid === undefined ? { jwk: key.jwk } : { kid }) };
  const parts = { protected: encode(header), payload: payload === undefined ? "" : encode(payload) };
  const input = Buffer.from(`${parts.protected}.${parts.payload}`);
  const signature = sign("sha256", input, { key: key.privateKey, dsaEncoding: "ieee-p1363" });
  return JSON.stringify({ ...parts, signature: signature.toString("base64url") });
}

/** RFC 8555 7.3.4: that the account belongs to a customer whom the authority knows already. */
export function externalBinding(
  key: AccountKey,
  external: { readonly kid: string; readonly hmacKey: string },
  url: string,
): object {
  const parts = { protected: encode({ alg: "HS256", kid: external.kid, url }), payload: encode(key.jwk) };
  const mac = createHmac("sha256", Buffer.from(external.hmacKey, "base64url"));
  return { ...parts, signature: mac.update(`${parts.protected}.${parts.payload}`).digest("base64url") };
}

const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
