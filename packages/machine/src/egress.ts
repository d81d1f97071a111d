/**
 * What a machine may send to the world. A policy has lists as E2B's `network` has them: `allowOut` of addresses,
 * blocks and domains, `denyOut` of addresses and blocks; an allow wins over a deny, and what neither names passes.
 * Hearth adds ports and protocols to an entry, `tcp:203.0.113.0/24:443`, and `all` for everywhere. The ranges that no
 * guest may reach (the host, link-local, metadata, private) stay closed whatever a policy says.
 */
import { isIP } from "node:net";
import { HearthError } from "@hearth/errors";
import Type from "typebox";

/** Of both lists of one policy together. */
export const maxEgressRules = 128;

const entries = Type.Array(Type.String({ minLength: 1, maxLength: 300 }), { maxItems: maxEgressRules });
const closed = { additionalProperties: false } as const;

export const EgressPolicyInput = Type.Object(
  {
    allowOut: Type.Optional(entries),
    denyOut: Type.Optional(entries),
    allow_internet_access: Type.Optional(Type.Boolean()),
  },
  closed,
);
export type EgressPolicyInput = Type.Static<typeof EgressPolicyInput>;

export interface PortRange {
  readonly from: number;
  readonly to: number;
}

export type EgressTarget =
  | { readonly kind: "block"; readonly family: 4 | 6; readonly cidr: string }
  /** With `*.` in front: every name below it, not the name itself. Lower case. */
  | { readonly kind: "domain"; readonly domain: string };

export interface EgressRule {
  readonly target: EgressTarget;
  /** Absent: every protocol. With ports it is one of these. */
  readonly protocol?: "tcp" | "udp";
  readonly ports?: PortRange;
}

export interface EgressPolicy {
  readonly allow: readonly EgressRule[];
  readonly deny: readonly EgressRule[];
}

const everywhere = ["0.0.0.0/0", "::/0"] as const;
const label = "[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?";
const domainPattern = new RegExp(`^(\\*\\.)?${label}(\\.${label})+$`);

/** @throws HearthError `invalid_argument` whose `details.field` is the entry, as `egress.allowOut.0` */
export function parseEgressPolicy(input: EgressPolicyInput, field = "egress"): EgressPolicy {
  const { allowOut = [], denyOut = [] } = input;
  if (allowOut.length + denyOut.length > maxEgressRules)
    throw invalid(field, `has more than ${maxEgressRules} entries; name larger blocks`);
  return readPolicy(input, field);
}

function readPolicy(input: EgressPolicyInput, field: string): EgressPolicy {
  const { allowOut = [], denyOut = [], allow_internet_access = true } = input;
  const closed = allow_internet_access ? [] : inBothFamilies("all");
  return {
    allow: allowOut.flatMap((text, index) =>
      inBothFamilies(text).map((one) => parseEgressRule(one, `${field}.allowOut.${index}`)),
    ),
    deny: [
      ...closed.map((one) => parseEgressRule(one, field)),
      ...denyOut.flatMap((text, index) => {
        const at = `${field}.denyOut.${index}`;
        return deniedFamilies(text).map((one) => parseDenied(one, at));
      }),
    ],
  };
}

function parseDenied(text: string, field: string): EgressRule {
  const rule = parseEgressRule(text, field);
  if (rule.target.kind === "block") return rule;
  throw invalid(field, "is a domain, and only addresses can be denied; deny `all`, and allow domains");
}

/** `all`, with what stands around it, is a block of each family. */
function inBothFamilies(text: string): string[] {
  const found = /^((?:tcp|udp):)?all(:.*)?$/.exec(text);
  if (found === null) return [text];
  const [, before = "", after = ""] = found;
  return everywhere.map((block) => `${before}${block.includes(":") ? `[${block}]` : block}${after}`);
}

/** Who denies all of IPv4 means the world, as E2B's clients do, and must not be left with IPv6 open. */
const deniedFamilies = (text: string): string[] =>
  inBothFamilies(text.replace(/^((?:tcp|udp):)?0\.0\.0\.0\/0(?=:|$)/, "$1all"));

/**
 * `[tcp:|udp:]<address, block or domain>[:<port>[-<port>]]`; an IPv6 address that has a port stands in brackets. A
 * port without a protocol is of TCP.
 */
export function parseEgressRule(text: string, field: string): EgressRule {
  const match = /^(?:(tcp|udp):)?(?:\[([^\]]+)\]|([^[\]]+?))(?::(\d{1,5})(?:-(\d{1,5}))?)?$/.exec(text);
  // An IPv6 address without brackets has no port: its last group is not one.
  const bare = /^(?:(tcp|udp):)?([0-9a-fA-F:.]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(?:\/\d+)?)$/.exec(text);
  const [proto, host, from, to] = bare
    ? [bare[1], bare[2]]
    : [match?.[1], match?.[2] ?? match?.[3], match?.[4], match?.[5]];
  if (host === undefined)
    throw invalid(field, `is not an address, a block or a domain with an optional port: "${text}"`);
  const ports = from === undefined ? undefined : parsePorts(from, to ?? from, field);
  const protocol = (proto as "tcp" | "udp" | undefined) ?? (ports === undefined ? undefined : "tcp");
  const target = parseTarget(host, field);
  // The resolver's answers become members of a hash set, which holds no ranges.
  if (target.kind === "domain" && ports !== undefined && ports.from !== ports.to)
    throw invalid(field, "is a domain with a range of ports; name one port an entry, or none");
  if (target.kind === "domain" && protocol !== undefined && ports === undefined)
    throw invalid(field, "is a domain with a protocol and no port; name its port, or no protocol");
  return {
    target,
    ...(protocol === undefined ? {} : { protocol }),
    ...(ports === undefined ? {} : { ports }),
  };
}

/** What a machine gets: what it says itself, over its app's default. Undefined when nothing is said. */
export function egressPolicyOf(
  app: EgressPolicyInput | undefined,
  machine: EgressPolicyInput | undefined,
): EgressPolicy | undefined {
  // Each of the two was within the limit when it was taken.
  const policy = readPolicy(mergeEgress(app, machine), "egress");
  return policy.allow.length + policy.deny.length === 0 ? undefined : policy;
}

/** The machine over the app: what the machine says of a list replaces the app's; absent, the app's holds. */
export function mergeEgress(
  app: EgressPolicyInput | undefined,
  machine: EgressPolicyInput | undefined,
): EgressPolicyInput {
  return { ...app, ...machine };
}

function parsePorts(from: string, to: string, field: string): PortRange {
  const range = { from: Number(from), to: Number(to) };
  if (range.from >= 1 && range.from <= range.to && range.to <= 65_535) return range;
  throw invalid(field, "has ports that are not 1 to 65535, the lower one first");
}

function parseTarget(host: string, field: string): EgressTarget {
  const [address = "", bits, ...more] = host.split("/");
  const version = isIP(address);
  if (version === 0) {
    const domain = host.toLowerCase().replace(/\.$/, "");
    if (/^[\d./]+$/.test(host) || host.includes("/") || host.includes(":"))
      throw invalid(field, `is not an address or a block of addresses: "${host}"`);
    if (domain.length <= 253 && domainPattern.test(domain)) return { kind: "domain", domain };
    throw invalid(
      field,
      `is not a domain: "${host}"; names have letters, digits and hyphens, \`*.\` only in front`,
    );
  }
  const family = version === 4 ? 4 : 6;
  const longest = family === 4 ? 32 : 128;
  const length = bits === undefined ? longest : Number(bits);
  if (more.length > 0 || !/^\d{1,3}$/.test(bits ?? "0") || length > longest || address.includes("%"))
    throw invalid(field, `has a prefix that is not 0 to ${longest}: "${host}"`);
  return { kind: "block", family, cidr: `${networkAddress(address, family, length)}/${length}` };
}

/** The first address of the block: nft takes only these in intervals. */
function networkAddress(address: string, family: 4 | 6, length: number): string {
  const bits = family === 4 ? 32 : 128;
  const kept = BigInt.asUintN(bits, (-1n << BigInt(bits - length)) & ((1n << BigInt(bits)) - 1n));
  const value = addressNumber(address, family) & kept;
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => `${(value >> shift) & 255n}`).join(".");
  const groups = Array.from({ length: 8 }, (_, index) => (value >> BigInt(112 - 16 * index)) & 0xffffn);
  return new URL(`http://[${groups.map((group) => group.toString(16)).join(":")}]`).hostname.slice(1, -1);
}

function addressNumber(address: string, family: 4 | 6): bigint {
  if (family === 4) return address.split(".").reduce((sum, part) => (sum << 8n) | BigInt(part), 0n);
  const plain = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [head = "", tail] = plain.split("::");
  const [left, right] = [head, tail ?? ""].map((part) => (part === "" ? [] : part.split(":")));
  const missing = tail === undefined ? 0 : 8 - (left?.length ?? 0) - (right?.length ?? 0);
  const groups = [...(left ?? []), ...Array<string>(missing).fill("0"), ...(right ?? [])];
  return groups.reduce((sum, group) => (sum << 16n) | BigInt(`0x${group}`), 0n);
}

const invalid = (field: string, problem: string): HearthError =>
  new HearthError("invalid_argument", { message: `${field} ${problem}.`, details: { field } });
