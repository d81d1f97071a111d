/**
 * The PROXY protocol, versions 1 and 2: pure, both ways. It says at the start of a connection whose it is.
 * https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt
 *
 * What is read comes from a source that is trusted, in as many pieces as it likes. It is read strictly: a header that
 * is nearly right is none, because what follows it would be taken for the client's.
 */
import { isIP, isIPv4, SocketAddress } from "node:net";

export interface ProxiedConnection {
  readonly source: EndOfConnection;
  readonly destination: EndOfConnection;
}

export interface EndOfConnection {
  readonly address: string;
  readonly port: number;
}

export type ProxyHeader =
  /** `connection` is absent where the sender speaks for itself (LOCAL, UNKNOWN), as health checks do. */
  | { readonly kind: "header"; readonly length: number; readonly connection?: ProxiedConnection }
  | { readonly kind: "more" }
  | { readonly kind: "bad" };

const signature = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1");
const v1Start = Buffer.from("PROXY ", "latin1");
/** With the line's end, by the specification. */
const v1Bytes = 107;
const v2HeadBytes = 16;
/** The addresses, and what may follow them; the specification has 64 KiB, senders stay far below this. */
const v2RestBytes = 2_048;

const bad: ProxyHeader = { kind: "bad" };
const more: ProxyHeader = { kind: "more" };

export const maxProxyHeaderBytes = v2HeadBytes + v2RestBytes;

export function readProxyHeader(bytes: Buffer): ProxyHeader {
  if (startsAlike(bytes, signature)) return bytes.length < v2HeadBytes ? more : readV2(bytes);
  if (startsAlike(bytes, v1Start)) return readV1(bytes);
  return bad;
}

const startsAlike = (bytes: Buffer, start: Buffer): boolean => {
  const length = Math.min(bytes.length, start.length);
  return bytes.subarray(0, length).equals(start.subarray(0, length));
};

const v1Form =
  /^PROXY (?:UNKNOWN(?: [\x20-\x7e]*)?|TCP([46]) ([0-9a-fA-F.:]{2,39}) ([0-9a-fA-F.:]{2,39}) (\d{1,5}) (\d{1,5}))$/;

function readV1(bytes: Buffer): ProxyHeader {
  const end = bytes.subarray(0, v1Bytes).indexOf("\r\n");
  if (end < 0) return bytes.length < v1Bytes ? more : bad;
  const form = v1Form.exec(bytes.toString("latin1", 0, end));
  if (form === null) return bad;
  const length = end + 2;
  const [, family, source = "", destination = "", sourcePort = "", destinationPort = ""] = form;
  if (family === undefined) return { kind: "header", length };
  if ([source, destination].some((address) => String(isIP(address)) !== family)) return bad;
  const ports = [sourcePort, destinationPort];
  if (ports.some((port) => String(Number(port)) !== port || Number(port) > 65_535)) return bad;
  const connection = {
    source: { address: source, port: Number(sourcePort) },
    destination: { address: destination, port: Number(destinationPort) },
  };
  return { kind: "header", length, connection };
}

function readV2(bytes: Buffer): ProxyHeader {
  const command = bytes.readUInt8(12);
  const family = bytes.readUInt8(13);
  const rest = bytes.readUInt16BE(14);
  if (command !== 0x20 && command !== 0x21) return bad;
  if (rest > v2RestBytes) return bad;
  const length = v2HeadBytes + rest;
  // A sender that speaks for itself may name anything, and it is skipped.
  if (command === 0x20) return bytes.length < length ? more : { kind: "header", length };
  const size = family === 0x11 ? 4 : family === 0x21 ? 16 : undefined;
  // UNSPEC, and what is no TCP over IP, has no address of a client to go by.
  if (size === undefined) return bad;
  if (rest < 2 * size + 4) return bad;
  if (bytes.length < length) return more;
  const addressAt = (at: number): string => textOf(bytes.subarray(at, at + size));
  const portsAt = v2HeadBytes + 2 * size;
  const connection = {
    source: { address: addressAt(v2HeadBytes), port: bytes.readUInt16BE(portsAt) },
    destination: { address: addressAt(v2HeadBytes + size), port: bytes.readUInt16BE(portsAt + 2) },
  };
  return { kind: "header", length, connection };
}

function textOf(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups = Array.from({ length: 8 }, (_each, at) => bytes.readUInt16BE(at * 2).toString(16));
  return plain(new SocketAddress({ address: groups.join(":"), family: "ipv6" }).address);
}

const mapped = "::ffff:";
const plain = (address: string): string =>
  address.startsWith(mapped) && isIPv4(address.slice(mapped.length)) ? address.slice(mapped.length) : address;

/** For the guest, as the first bytes of its connection. */
export function writeProxyHeader(version: 1 | 2, { source, destination }: ProxiedConnection): Buffer {
  const ends = [source, destination].map(({ address, port }) => ({ address: plain(address), port }));
  const isV4 = ends.every(({ address }) => isIPv4(address));
  // One family for both: an address of the other is written as one of IPv6.
  const addresses = ends.map(({ address }) => (isV4 || !isIPv4(address) ? address : `${mapped}${address}`));
  const ports = ends.map(({ port }) => port);
  if (version === 1) {
    const words = ["PROXY", isV4 ? "TCP4" : "TCP6", ...addresses, ...ports];
    return Buffer.from(`${words.join(" ")}\r\n`, "latin1");
  }
  const parts = addresses.map((address) => bytesOf(address, isV4));
  const rest = Buffer.concat([...parts, ...ports.map((port) => Buffer.from([port >> 8, port & 255]))]);
  const head = Buffer.from([0x21, isV4 ? 0x11 : 0x21, rest.length >> 8, rest.length & 255]);
  return Buffer.concat([signature, head, rest]);
}

function bytesOf(address: string, isV4: boolean): Buffer {
  if (isV4) return Buffer.from(address.split(".").map(Number));
  const hex = address.replace(/[\d.]+$/, (last) =>
    last.includes(".")
      ? last
          .split(".")
          .map((part) => Number(part).toString(16).padStart(2, "0"))
          .join("")
          .replace(/^(.{4})/, "$1:")
      : last,
  );
  const [left = "", right] = hex.split("::");
  const first = left === "" ? [] : left.split(":");
  const last = right === undefined || right === "" ? [] : right.split(":");
  const zeros = new Array<string>(Math.max(0, 8 - first.length - last.length)).fill("0");
  return Buffer.from([...first, ...zeros, ...last].map((group) => group.padStart(4, "0")).join(""), "hex");
}
