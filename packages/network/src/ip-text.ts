/** The one text of an address, so that what is compared as text is compared as an address. */
import { isIP, SocketAddress } from "node:net";

/**
 * As `ip` writes it: an IPv6 address in the form of RFC 5952, and one that stands for an IPv4 address as that.
 * Undefined for what is no address, or holds for one link only.
 */
export function canonicalIp(text: string): string | undefined {
  const family = isIP(text);
  if (family === 4) return text;
  if (family === 0 || text.includes("%")) return undefined;
  const { address } = new SocketAddress({ address: text, family: "ipv6" });
  return address.replace(/^::ffff:(?=\d+\.)/, "");
}
