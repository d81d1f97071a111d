/**
 * Egress policies as members of sets that are keyed by the machine's interface: the rules are the same however many
 * machines there are, and a packet costs a handful of look-ups.
 *
 * An allow wins over a deny; what neither names passes. The kernel refuses members of an interval set that overlap, so
 * what a policy names is cut into boxes (addresses by ports) that do not. Members are written as nft lists them, so that
 * what is there and what should be compare as text. What domains allow is in sets of its own (egress-names.ts).
 */
import { formatIpv6, parseIpv6 } from "./address-plan.ts";

export interface EgressRule {
  readonly target:
    | { readonly kind: "block"; readonly family: 4 | 6; readonly cidr: string }
    | { readonly kind: "domain"; readonly domain: string };
  /** Absent: every protocol. */
  readonly protocol?: "tcp" | "udp";
  readonly ports?: { readonly from: number; readonly to: number };
}

export interface EgressPolicy {
  readonly allow: readonly EgressRule[];
  readonly deny: readonly EgressRule[];
}

export type Family = 4 | 6;
type Verdict = "allow" | "deny";
export type EgressSet =
  | "egress_ifaces"
  /** Of machines for which what the resolver has told counts. */
  | "egress_named_ifaces"
  | `egress_${Verdict}_v${Family}`
  | `egress_${Verdict}_ports_v${Family}`
  | NameSet;
/** Of addresses that the resolver has told. */
export type NameSet = `egress_resolved_v${Family}` | `egress_resolved_ports_v${Family}`;

export interface EgressElement {
  readonly set: EgressSet;
  readonly value: string;
}

const families = [4, 6] as const;
const verdicts = ["allow", "deny"] as const;
const allPorts = { from: 0, to: 65_535 };

/** Those of which the members are of one slot. */
export const egressSetNames: readonly EgressSet[] = [
  ...(["egress_ifaces", "egress_named_ifaces"] as const),
  ...verdicts.flatMap((verdict) =>
    families.flatMap(
      (family) => [`egress_${verdict}_v${family}`, `egress_${verdict}_ports_v${family}`] as const,
    ),
  ),
];

/** @param table as nft writes it, `inet name` */
export function egressSets(table: string): string[] {
  const sets = families.flatMap((family) => {
    const key = `ifname . ipv${family}_addr`;
    const ports = `${key} . inet_proto . inet_service`;
    const told = `ipv${family}_addr . ipv${family}_addr`;
    return [
      ...verdicts.flatMap((verdict) => [
        `egress_${verdict}_v${family} { type ${key}; flags interval; }`,
        `egress_${verdict}_ports_v${family} { type ${ports}; flags interval; }`,
      ]),
      `egress_resolved_v${family} { type ${told}; flags timeout; }`,
      `egress_resolved_ports_v${family} { type ${told} . inet_proto . inet_service; flags timeout; }`,
    ];
  });
  const names = ["egress_ifaces", "egress_named_ifaces"].map((name) => `${name} { type ifname; }`);
  return [...names, ...sets].map((set) => `add set ${table} ${set}`);
}

/** Of a chain that packets of guests to the world go to. */
export function egressRules(): string[] {
  const match = (prefix: string, verdict: string, isNamed = false) =>
    families.flatMap((family) => {
      const protocol = family === 4 ? "ip" : "ip6";
      // A source is its interface's own by now, and these addresses stay with the machine when its slot does not.
      const source = isNamed ? `iifname @egress_named_ifaces ${protocol} saddr` : "iifname";
      const key = `${source} . ${protocol} daddr`;
      return [
        `${key} @${prefix}_v${family} ${verdict}`,
        `${key} . meta l4proto . th dport @${prefix}_ports_v${family} ${verdict}`,
      ];
    });
  return [
    "iifname != @egress_ifaces accept",
    ...match("egress_allow", "accept"),
    ...match("egress_resolved", "accept", true),
    ...match("egress_deny", "counter drop"),
    "accept",
  ];
}

/** Whether names have to do with what this policy lets through. */
export const heedsNames = ({ allow, deny }: EgressPolicy): boolean =>
  deny.length > 0 && allow.some(({ target }) => target.kind === "domain");

/** Members for one machine; none when its policy says nothing. */
export function egressElements(iface: string, policy: EgressPolicy): EgressElement[] {
  if (policy.allow.length + policy.deny.length === 0) return [];
  return [
    { set: "egress_ifaces", value: `"${iface}"` },
    ...(heedsNames(policy) ? [{ set: "egress_named_ifaces", value: `"${iface}"` } as const] : []),
    ...verdicts.flatMap((verdict) =>
      families.flatMap((family) => members(iface, verdict, family, policy[verdict])),
    ),
  ];
}

interface Span {
  readonly from: bigint;
  readonly to: bigint;
}

function members(
  iface: string,
  verdict: Verdict,
  family: Family,
  rules: readonly EgressRule[],
): EgressElement[] {
  const blocks = rules.flatMap(({ target, ...rest }) =>
    target.kind === "block" && target.family === family
      ? [{ ...rest, span: spanOf(target.cidr, family) }]
      : [],
  );
  const key = (span: Span) => `"${iface}" . ${range(span, (value) => text(value, family))}`;
  const whole = union(blocks.filter(({ protocol }) => protocol === undefined).map(({ span }) => span));
  const boxes = (["tcp", "udp"] as const).flatMap((protocol) => {
    const own = blocks.filter((block) => block.protocol === protocol);
    return cut(own.map(({ span }) => span)).flatMap((span) => {
      const ports = own.filter((block) => block.span.from <= span.from && span.to <= block.span.to);
      const spans = ports.map(({ ports: { from, to } = allPorts }) => ({
        from: BigInt(from),
        to: BigInt(to),
      }));
      return union(spans).map((one) => `${key(span)} . ${protocol} . ${range(one, String)}`);
    });
  });
  return [
    ...whole.map((span) => ({ set: `egress_${verdict}_v${family}` as const, value: key(span) })),
    ...boxes.map((value) => ({ set: `egress_${verdict}_ports_v${family}` as const, value })),
  ];
}

/** Spans that do not touch, of the same numbers. */
function union(spans: readonly Span[]): Span[] {
  const sorted = [...spans].sort((a, b) => (a.from < b.from ? -1 : 1));
  const merged: { from: bigint; to: bigint }[] = [];
  for (const { from, to } of sorted) {
    const last = merged.at(-1);
    if (last === undefined || from > last.to + 1n) merged.push({ from, to });
    else if (to > last.to) last.to = to;
  }
  return merged;
}

/** Spans between all ends, those that something covers. */
function cut(spans: readonly Span[]): Span[] {
  const ends = [...new Set(spans.flatMap(({ from, to }) => [from, to + 1n]))].sort((a, b) =>
    a < b ? -1 : 1,
  );
  return ends
    .slice(1)
    .map((end, index) => ({ from: ends[index] ?? end, to: end - 1n }))
    .filter((one) => spans.some(({ from, to }) => from <= one.from && one.to <= to));
}

function spanOf(cidr: string, family: Family): Span {
  const [address = "", length = ""] = cidr.split("/");
  const from = numberOf(address, family);
  return { from, to: from | ((1n << BigInt((family === 4 ? 32 : 128) - Number(length))) - 1n) };
}

const numberOf = (address: string, family: Family): bigint =>
  family === 6
    ? parseIpv6(address)
    : address.split(".").reduce((sum, part) => (sum << 8n) | BigInt(part), 0n);

const range = ({ from, to }: Span, write: (value: bigint) => string): string =>
  from === to ? write(from) : `${write(from)}-${write(to)}`;

const text = (value: bigint, family: Family): string =>
  family === 6
    ? formatIpv6(value)
    : [24n, 16n, 8n, 0n].map((shift) => String((value >> shift) & 255n)).join(".");

/** The last address of a block, as members write it. */
export function lastOfBlock(first: string, length: number): string {
  const family = first.includes(":") ? 6 : 4;
  return text(spanOf(`${first}/${length}`, family).to, family);
}
