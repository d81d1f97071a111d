/**
 * Whether a custom domain leads here, by asking the host's resolvers now. Here is any address of a host of the region,
 * and any that the app's own name has: an operator whose hosts are behind other addresses points that name there.
 *
 * It proves nothing: a name is whose claim was first. What proves it is the authority, by a challenge, or whoever signed
 * an uploaded certificate.
 */
import { Resolver } from "node:dns/promises";
import { isIP } from "node:net";

export interface DomainRecords {
  readonly a: readonly string[];
  readonly aaaa: readonly string[];
  readonly cname: readonly string[];
  /** Texts of the name by which somebody shows that it is theirs. */
  readonly ownership: readonly string[];
  /** The addresses that it ends at. */
  readonly resolved: readonly string[];
  /** It cannot be said whether the name has records, as no resolver answered. */
  readonly failure?: string;
}

/** Answers `[]` for what does not exist. */
export type LookUp = (name: string, type: "A" | "AAAA" | "CNAME" | "TXT") => Promise<string[]>;

const none: ReadonlySet<string> = new Set(["ENODATA", "ENOTFOUND"]);

/** @param servers `address` or `address#port`; those of /etc/resolv.conf when there is none */
export function dnsLookUp(servers: readonly string[]): LookUp {
  const resolver = new Resolver({ timeout: 2_000, tries: 2 });
  if (servers.length > 0) resolver.setServers(servers.map(inBrackets));
  return async (name, type) => {
    try {
      if (type === "A") return await resolver.resolve4(name);
      if (type === "AAAA") return await resolver.resolve6(name);
      if (type === "CNAME") return await resolver.resolveCname(name);
      return (await resolver.resolveTxt(name)).map((parts) => parts.join(""));
    } catch (error) {
      if (none.has((error as NodeJS.ErrnoException).code ?? "")) return [];
      throw error;
    }
  };
}

function inBrackets(server: string): string {
  const [address = "", port] = server.split("#");
  if (port === undefined) return address;
  return isIP(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`;
}

export const ownershipName = (hostname: string): string => `_hearth-ownership.${hostname}`;

export async function lookUpDomain(hostname: string, lookUp: LookUp): Promise<DomainRecords> {
  const failures: string[] = [];
  const ask = (name: string, type: Parameters<LookUp>[1]): Promise<string[]> =>
    lookUp(name, type).catch((error: unknown) => {
      failures.push(String((error as NodeJS.ErrnoException).code ?? "failed"));
      return [];
    });
  const [a, aaaa, cname, ownership] = await Promise.all([
    ask(hostname, "A"),
    ask(hostname, "AAAA"),
    ask(hostname, "CNAME"),
    ask(ownershipName(hostname), "TXT"),
  ]);
  const [failure] = a.length + aaaa.length === 0 ? failures : [];
  return {
    ...{ a, aaaa, ownership },
    cname: cname.map((name) => name.toLowerCase().replace(/\.$/, "")),
    resolved: [...a, ...aaaa],
    ...(failure === undefined ? {} : { failure }),
  };
}

export interface Expected {
  readonly addresses: ReadonlySet<string>;
  readonly cname: string;
}

export interface DomainState {
  /** Some address of it is one of ours. */
  readonly leadsHere: boolean;
  /** All are: whichever the authority takes, it comes here. */
  readonly isWhole: boolean;
  readonly hasOwnership: boolean;
}

export function judgeDomain(
  { a, aaaa, cname, ownership }: DomainRecords,
  expected: Expected,
  ownershipValues: readonly string[],
): DomainState {
  const all = [...a, ...aaaa];
  const ours = all.filter((address) => expected.addresses.has(address));
  const isAlias = cname.includes(expected.cname);
  return {
    leadsHere: ours.length > 0 || (isAlias && all.length > 0),
    isWhole: all.length > 0 && (ours.length === all.length || isAlias),
    hasOwnership: ownership.some((text) => ownershipValues.includes(text)),
  };
}
