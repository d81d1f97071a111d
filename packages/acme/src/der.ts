/**
 * The two structures that a client of ACME has to write itself: a request for a certificate (RFC 2986), and the
 * certificate that answers a TLS-ALPN-01 challenge (RFC 8737). Written as DER by hand: the host's openssl would need the
 * keys in files, and a library would be most of what the process keeps in memory, for two fixed forms. Names are only
 * those that `readHostname` lets through, so each length here is below 2 KB.
 */
import { createHash, createPrivateKey, createPublicKey, randomBytes, sign } from "node:crypto";

const tag = { boolean: 1, integer: 2, bits: 3, octets: 4, oid: 6, sequence: 0x30, set: 0x31 } as const;
const ecdsaWithSha256 = "2a8648ce3d040302";
const oid = {
  commonName: "550403",
  subjectAltName: "551d11",
  extensionRequest: "2a864886f70d01090e",
  acmeIdentifier: "2b0601050507011f",
} as const;
const day = 86_400_000;

/** @param key PEM of a key on P-256 */
export function signingRequest(hostname: string, key: string): Buffer {
  const wanted = der(tag.sequence, extension(oid.subjectAltName, altName(hostname)));
  const attribute = der(tag.sequence, hex(tag.oid, oid.extensionRequest), der(tag.set, wanted));
  const body = der(
    tag.sequence,
    hex(tag.integer, "00"),
    der(tag.sequence),
    publicKeyOf(key),
    der(0xa0, attribute),
  );
  return signed(body, key);
}

/** PEM of what is shown to an authority that asks by `acme-tls/1`, for a key of its own. */
export function challengeCertificate(
  { hostname, keyAuthorization }: { readonly hostname: string; readonly keyAuthorization: string },
  key: string,
  nowMs: number,
): string {
  const digest = createHash("sha256").update(keyAuthorization).digest();
  const serial = randomBytes(16);
  // Positive, and of one length: RFC 5280 4.1.2.2.
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40;
  const label = der(0x0c, Buffer.from("hearth acme"));
  const name = der(tag.sequence, der(tag.set, der(tag.sequence, hex(tag.oid, oid.commonName), label)));
  const extensions = der(
    tag.sequence,
    extension(oid.subjectAltName, altName(hostname)),
    extension(oid.acmeIdentifier, der(tag.octets, digest), true),
  );
  const body = der(
    tag.sequence,
    der(0xa0, hex(tag.integer, "02")),
    der(tag.integer, serial),
    algorithm(),
    name,
    der(tag.sequence, time(nowMs - day), time(nowMs + 7 * day)),
    name,
    publicKeyOf(key),
    der(0xa3, extensions),
  );
  const base64 = signed(body, key).toString("base64").replace(/.{64}/g, "$&\n");
  return `-----BEGIN CERTIFICATE-----\n${base64.trimEnd()}\n-----END CERTIFICATE-----\n`;
}

function der(type: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  const head =
    length < 0x80
      ? [type, length]
      : length < 0x100
        ? [type, 0x81, length]
        : [type, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(head), content]);
}

const hex = (type: number, text: string): Buffer => der(type, Buffer.from(text, "hex"));
const algorithm = (): Buffer => der(tag.sequence, hex(tag.oid, ecdsaWithSha256));
const altName = (hostname: string): Buffer => der(tag.sequence, der(0x82, Buffer.from(hostname, "ascii")));

function extension(id: string, value: Buffer, isCritical = false): Buffer {
  const critical = isCritical ? [hex(tag.boolean, "ff")] : [];
  return der(tag.sequence, hex(tag.oid, id), ...critical, der(tag.octets, value));
}

/** GeneralizedTime; RFC 5280 wants UTCTime before 2050. */
function time(ms: number): Buffer {
  const text = new Date(ms).toISOString().replaceAll(/[-:T]|\.\d+/g, "");
  return ms < Date.UTC(2050) ? der(0x17, Buffer.from(text.slice(2))) : der(0x18, Buffer.from(text));
}

const publicKeyOf = (key: string): Buffer =>
  createPublicKey(createPrivateKey(key)).export({ type: "spki", format: "der" });

function signed(body: Buffer, key: string): Buffer {
  const signature = sign("sha256", body, createPrivateKey(key));
  return der(tag.sequence, body, algorithm(), der(tag.bits, Buffer.from([0]), signature));
}
