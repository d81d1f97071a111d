/**
 * The server name in a ClientHello, and whether it is one of an authority: pure, over bytes that an unknown client sent. Each length is checked against what
 * is there before it is followed. RFC 8446 4.1.2, RFC 6066 3.
 */
export type HelloName =
  /** `asksProof`: it speaks the protocol of a TLS-ALPN-01 challenge. */
  | { readonly kind: "name"; readonly name: string; readonly asksProof: boolean }
  /** A ClientHello without one. */
  | { readonly kind: "none" }
  | { readonly kind: "more" }
  /** It is no TLS. */
  | { readonly kind: "bad" };

/** What an authority speaks that is to be shown a proof: RFC 8737. */
export const challengeProtocol = "acme-tls/1";

/** With post-quantum keys a ClientHello has about two kilobytes; one record has this at most. */
export const maxHelloBytes = 5 + 16_384;
const nameExtension = 0;
const alpnExtension = 16;
const bad: HelloName = { kind: "bad" };

export function readHelloName(bytes: Buffer): HelloName {
  if (bytes.length > 0 && bytes[0] !== 0x16) return bad;
  if (bytes.length > 1 && bytes[1] !== 3) return bad;
  if (bytes.length < 5) return { kind: "more" };
  const recordEnd = 5 + bytes.readUInt16BE(3);
  if (recordEnd > maxHelloBytes) return bad;
  if (bytes.length < recordEnd) return { kind: "more" };
  const record = new Reader(bytes.subarray(5, recordEnd));
  // One that is split over records is legal and nobody's: it is answered as what has no name.
  if (record.number(1) !== 1) return bad;
  const hello = record.part(3);
  if (hello === undefined) return bad;
  const [version, random] = [hello.number(2), hello.take(32)];
  const [session, ciphers, compression] = [hello.part(1), hello.part(2), hello.part(1)];
  if (version === undefined || random === undefined) return bad;
  if (session === undefined || ciphers === undefined || compression === undefined) return bad;
  const extensions = hello.part(2);
  return extensions === undefined ? { kind: "none" } : nameIn(extensions);
}

function nameIn(extensions: Reader): HelloName {
  let found: string | undefined;
  let asksProof = false;
  while (extensions.left > 0) {
    const type = extensions.number(2);
    const body = extensions.part(2);
    if (type === undefined || body === undefined) return bad;
    if (type === alpnExtension) asksProof = offersProof(body);
    if (type !== nameExtension || found !== undefined) continue;
    const names = body.part(2);
    const kind = names?.number(1);
    const name = names?.part(2)?.rest().toString("latin1");
    if (kind !== 0 || name === undefined || !/^[A-Za-z0-9._-]{1,253}$/.test(name)) return bad;
    found = name.toLowerCase();
  }
  return found === undefined ? { kind: "none" } : { kind: "name", name: found, asksProof };
}

/** RFC 8737 3: it is the only protocol that such a client offers. */
function offersProof(body: Reader): boolean {
  const protocols = body.part(2);
  return protocols?.part(1)?.rest().toString("latin1") === challengeProtocol && protocols.left === 0;
}

/** Undefined for what is not there. */
class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  take(count: number): Buffer | undefined {
    if (count > this.left) return undefined;
    this.#at += count;
    return this.#bytes.subarray(this.#at - count, this.#at);
  }

  number(width: number): number | undefined {
    return this.take(width)?.readUIntBE(0, width);
  }

  /** What follows its own length. */
  part(width: number): Reader | undefined {
    const length = this.number(width);
    const bytes = length === undefined ? undefined : this.take(length);
    return bytes && new Reader(bytes);
  }

  rest(): Buffer {
    return this.#bytes.subarray(this.#at);
  }
}
