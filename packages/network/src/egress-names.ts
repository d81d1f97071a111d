/**
 * What a policy says of names. A domain allows the addresses that the host's resolver has told the guest, as members
 * that expire. They are keyed by the guest's own address, which the firewall has checked and which stays with the
 * machine, so that the resolver needs to know nothing of slots, and a worker that restarts loses none of them. These
 * sets hold no intervals, because two names may have one address.
 */
import type { EgressElement, EgressPolicy, EgressRule, Family, NameSet } from "./egress-plan.ts";

/** The addresses that a guest sends from. */
export interface GuestAddresses {
  readonly v4: string;
  readonly v6: string;
}

/** What a resolver told a guest of one name. */
export interface NameAnswer {
  readonly name: string;
  readonly addresses: readonly {
    readonly address: string;
    readonly family: Family;
    readonly ttlSeconds: number;
  }[];
}

export interface NameElement extends EgressElement {
  readonly set: NameSet;
  readonly seconds: number;
}

/** Connections are made a while after the answer, and a TTL of 0 is common. */
export const nameSecondsLimits = { min: 60, max: 86_400 } as const;

export const nameSets: readonly NameSet[] = ([4, 6] as const).flatMap(
  (family) => [`egress_resolved_v${family}`, `egress_resolved_ports_v${family}`] as const,
);

/**
 * Whether a guest may ask for a public name. One to which every address is closed, but for those of names that it is
 * allowed, could send out what it likes as the names that it asks for.
 */
export function mayAsk(policy: EgressPolicy, name: string): boolean {
  if (!isClosed(policy)) return true;
  return rulesOf(policy, name).length > 0;
}

function isClosed({ allow, deny }: EgressPolicy): boolean {
  const everywhere = (cidr: string) =>
    deny.some(
      ({ target, protocol }) => target.kind === "block" && target.cidr === cidr && protocol === undefined,
    );
  return (
    everywhere("0.0.0.0/0") && everywhere("::/0") && allow.every(({ target }) => target.kind === "domain")
  );
}

/** Members for what the policy allows of the name; for how long is said beside each. */
export function nameElements(
  guest: GuestAddresses,
  policy: EgressPolicy,
  { name, addresses }: NameAnswer,
): NameElement[] {
  const rules = rulesOf(policy, name);
  return addresses.flatMap(({ address, family, ttlSeconds }) => {
    const seconds = Math.min(Math.max(Math.ceil(ttlSeconds), nameSecondsLimits.min), nameSecondsLimits.max);
    const key = `${family === 4 ? guest.v4 : guest.v6} . ${address}`;
    const members = new Map<string, NameSet>();
    for (const { protocol, ports } of rules) {
      if (protocol === undefined) members.set(key, `egress_resolved_v${family}`);
      // A range, or a protocol without a port, is refused where policies are read.
      else if (ports !== undefined && ports.from === ports.to)
        members.set(`${key} . ${protocol} . ${ports.from}`, `egress_resolved_ports_v${family}`);
    }
    return [...members].map(([value, set]) => ({ set, value, seconds }));
  });
}

/** Whether a domain of a policy covers a name; `*.` covers what is below, not the name itself. */
export function covers(domain: string, name: string): boolean {
  const asked = name.toLowerCase().replace(/\.$/, "");
  return domain.startsWith("*.")
    ? asked.endsWith(domain.slice(1)) && asked.length > domain.length - 1
    : asked === domain;
}

const rulesOf = ({ allow }: EgressPolicy, name: string): EgressRule[] =>
  allow.filter(({ target }) => target.kind === "domain" && covers(target.domain, name));
