/**
 * Egress policies as members of sets that are keyed by the machine's interface: the rules are the same however many
 * machines there are, and a packet costs a handful of look-ups.
 *
 * An allow wins over a deny; what neither names passes. The kernel refuses members of an interval set that overlap, so
 * what a policy names is cut into boxes (addresses by ports) that do not. Domains are allowed by the addresses that
 * the host's resolver has told the guest, as members that expire; these sets hold no intervals, because two names may
 * have one address.
 */

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

type Family = 4 | 6;
type Verdict = "allow" | "deny";
export type EgressSet =
  | "egress_ifaces"
  | `egress_${Verdict}_v${Family}`
  | `egress_${Verdict}_ports_v${Family}`
  | `egress_names_v${Family}`
  | `egress_name_ports_v${Family}`;

export interface EgressElement {
  readonly set: EgressSet;
  readonly value: string;
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

/** Connections are made a while after the answer, and a TTL of 0 is common. */
export const nameSecondsLimits = { min: 60, max: 86_400 } as const;
const families = [4, 6] as const;
const verdicts = ["allow", "deny"] as const;
const allPorts = { from: 0, to: 65_535 };

/** @param table as nft writes it, `inet name` */
export function egressSets(table: string): string[] {
  const sets = families.flatMap((family) => {
    const key = `ifname . ipv${family}_addr`;
    const ports = `${key} . inet_proto . inet_service`;
    return [
      ...verdicts.flatMap((verdict) => [
        `egress_${verdict}_v${family} { type ${key}; flags interval; }`,
        `egress_${verdict}_ports_v${family} { type ${ports}; flags interval; }`,
      ]),
      `egress_names_v${family} { type ${key}; flags timeout; }`,
      `egress_name_ports_v${family} { type ${ports}; flags timeout; }`,
    ];
  });
  return ["egress_ifaces { type ifname; }", ...sets].map((set) => `add set ${table} ${set}`);
}

/** Of a chain that packets of guests to the world go to. */
export function egressRules(): string[] {
  const match = (prefix: string, verdict: string) =>
    families.flatMap((family) => {
      const key = `iifname . ${family === 4 ? "ip" : "ip6"} daddr`;
      const infix = prefix === "egress_names" ? "egress_name_ports" : `${prefix}_ports`;
      return [
        `${key} @${prefix}_v${family} ${verdict}`,
        `${key} . meta l4proto . th dport @${infix}_v${family} ${verdict}`,
      ];
    });
  return [
    "iifname != @egress_ifaces accept",
    ...match("egress_allow", "accept"),
    ...match("egress_names", "accept"),
    ...match("egress_deny", "counter drop"),
    "accept",
  ];
}

/** Members for one machine; none when its policy says nothing. */
export function egressElements(iface: string, policy: EgressPolicy): EgressElement[] {
  if (policy.allow.length + policy.deny.length === 0) return [];
  return [
    { set: "egress_ifaces", value: `"${iface}"` },
    ...verdicts.flatMap((verdict) =>
      families.flatMap((family) => members(iface, verdict, family, policy[verdict])),
    ),
  ];
}

/** Members that expire, for what the policy allows of the name. */
export function nameElements(iface: string, policy: EgressPolicy, answer: NameAnswer): EgressElement[] {
  const rules = policy.allow.filter(
    ({ target }) => target.kind === "domain" && covers(target.domain, answer.name),
  );
  return answer.addresses.flatMap(({ address, family, ttlSeconds }) => {
    const seconds = Math.min(Math.max(Math.ceil(ttlSeconds), nameSecondsLimits.min), nameSecondsLimits.max);
    const key = `"${iface}" . ${address}`;
    const members = new Map<string, EgressSet>();
    for (const { protocol, ports } of rules) {
      if (protocol === undefined) members.set(key, `egress_names_v${family}`);
      // A range, or a protocol without a port, is refused where policies are read.
      else if (ports !== undefined && ports.from === ports.to)
        members.set(`${key} . ${protocol} . ${ports.from}`, `egress_name_ports_v${family}`);
    }
    return [...members].map(([value, set]) => ({ set, value: `${value} timeout ${seconds}s` }));
  });
}

/** Whether a domain of a policy covers a name; `*.` covers what is below, not the name itself. */
export function covers(domain: string, name: string): boolean {
  const asked = name.toLowerCase().replace(/\.$/, "");
  return domain.startsWith("*.")
    ? asked.endsWith(domain.slice(1)) && asked.length > domain.length - 1
    : asked === domain;
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
  const key = ({ from, to }: Span) => `"${iface}" . ${text(from, family)}-${text(to, family)}`;
  const whole = union(blocks.filter(({ protocol }) => protocol === undefined).map(({ span }) => span));
  const boxes = (["tcp", "udp"] as const).flatMap((protocol) => {
    const own = blocks.filter((block) => block.protocol === protocol);
    return cut(own.map(({ span }) => span)).flatMap((span) => {
      const ports = own.filter((block) => block.span.from <= span.from && span.to <= block.span.to);
      const spans = ports.map(({ ports: { from, to } = allPorts }) => ({
        from: BigInt(from),
        to: BigInt(to),
      }));
      return union(spans).map(({ from, to }) => `${key(span)} . ${protocol} . ${from}-${to}`);
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

function numberOf(address: string, family: Family): bigint {
  if (family === 4) return address.split(".").reduce((sum, part) => (sum << 8n) | BigInt(part), 0n);
  const [left = [], right = []] = address.split("::").map((half) => half.split(":").filter(Boolean));
  const zeros = address.includes("::") ? Array<string>(8 - left.length - right.length).fill("0") : [];
  return [...left, ...zeros, ...right].reduce((sum, group) => (sum << 16n) | BigInt(`0x${group}`), 0n);
}

function text(value: bigint, family: Family): string {
  const [count, width] = family === 4 ? ([4, 8n] as const) : ([8, 16n] as const);
  const parts = Array.from(
    { length: count },
    (_, index) => (value >> (BigInt(count - 1 - index) * width)) & ((1n << width) - 1n),
  );
  return family === 4 ? parts.join(".") : parts.map((part) => part.toString(16)).join(":");
}
