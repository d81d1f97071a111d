/** Which names are answered here and nowhere else: the private ones, and the reverse of private addresses. */
import { formatMachineAddress, parseMachineAddress } from "@hearth/network";

/** How many of a name's last labels are the zone that it lies in. */
export interface Zone {
  readonly labels: number;
  readonly kind: "internal" | "reverse-v6" | "reverse-v4";
}

const internal: Zone = { labels: 1, kind: "internal" };
/** All of fc00::/7: a world that is private to somebody, and never a question for others (RFC 6303 section 4.4). */
const uniqueLocal: Zone = { labels: 3, kind: "reverse-v6" };
const egress: Zone = { labels: 4, kind: "reverse-v4" };

/** Undefined for a name of the public world. */
export function zoneOf(labels: readonly string[]): Zone | undefined {
  const [last, second, third, fourth] = labels.toReversed();
  if (last === "internal") return internal;
  if (last !== "arpa") return undefined;
  if (second === "ip6" && third === "f" && (fourth === "d" || fourth === "c")) return uniqueLocal;
  // 100.64.0.0/10: what hosts see their guests by.
  if (second === "in-addr" && third === "100" && isShared(fourth)) return egress;
  return undefined;
}

const isShared = (label: string | undefined): boolean =>
  label !== undefined && /^\d{2,3}$/.test(label) && Number(label) >= 64 && Number(label) <= 127;

/** The address of a whole reverse name, as machines have it; undefined when it is not whole, or not one. */
export function addressOfReverse(labels: readonly string[], { kind }: Zone): string | undefined {
  if (kind === "reverse-v4") {
    const octets = labels.slice(0, -2);
    return octets.length === 4 && octets.every((one) => /^\d{1,3}$/.test(one))
      ? octets.toReversed().join(".")
      : undefined;
  }
  const nibbles = labels.slice(0, -2);
  if (nibbles.length !== 32 || !nibbles.every((one) => /^[0-9a-f]$/.test(one))) return undefined;
  const hex = nibbles.toReversed().join("");
  return formatMachineAddress(parseMachineAddress((hex.match(/.{4}/g) ?? []).join(":")));
}

/** Whether a reverse name is the beginning of one, so that it exists and has no records (RFC 8020). */
export const isPartOfReverse = (labels: readonly string[], { kind }: Zone): boolean =>
  labels.length < (kind === "reverse-v4" ? 6 : 34);
