/** The addresses that an answer gives for a name: its own, and those of the names that it is another name for. */
import type { NameAnswer } from "@hearth/network";
import dnsPacket from "dns-packet";

type Addresses = NameAnswer["addresses"];

/** Longer chains are a loop, or somebody's mistake. */
const maxAliases = 16;
/** More than any service has, and few enough that one answer does not fill what a guest may have open. */
export const maxAddresses = 64;

/** Empty for what cannot be read. @param name in lower case, without the dot at its end */
export function toldAddresses(answer: Buffer, name: string): Addresses {
  const records = decoded(answer);
  const names = new Set([name]);
  for (let size = 0; size !== names.size && names.size <= maxAliases; ) {
    size = names.size;
    for (const record of records)
      if (record.type === "CNAME" && names.has(record.name.toLowerCase()))
        names.add(record.data.toLowerCase());
  }
  const found = records.flatMap((record): Addresses => {
    if ((record.type !== "A" && record.type !== "AAAA") || !names.has(record.name.toLowerCase())) return [];
    const family = record.type === "A" ? 4 : 6;
    return [{ address: record.data, family, ttlSeconds: record.ttl ?? 0 }];
  });
  return found.slice(0, maxAddresses);
}

function decoded(answer: Buffer): readonly dnsPacket.Answer[] {
  try {
    return dnsPacket.decode(answer).answers ?? [];
  } catch {
    return [];
  }
}
