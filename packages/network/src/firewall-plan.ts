/**
 * The firewall of one node: a table of nftables whose rules never change while machines come and go.
 *
 * All that changes is members of sets, so adding a machine is one small transaction. Only sets are used, no
 * maps, because adding a member that is there already is no error for a set; that makes removing repeatable:
 * add, then delete, in one transaction.
 *
 * What holds: a guest sends only from its own addresses; guests reach each other only when the 32 network
 * bits of source and destination are a linked pair, on this host or over the mesh; guests reach of the host only the
 * services listed, and of other hosts nothing; of the world, everything but link-local (and so cloud metadata), private
 * and multicast ranges; nobody outside begins a connection to a guest, but this host and other hosts themselves, by the
 * addresses that are theirs. That a host sends from its own /64 only is seen to by the mesh.
 */
import { HearthError } from "@hearth/errors";
import { type ClusterPrefix, formatClusterPrefix, hostPrefix } from "./address-plan.ts";
import { type EgressSet, egressRules, egressSets } from "./egress-plan.ts";

export interface HostService {
  /** An IPv6 address of the host. */
  readonly address: string;
  readonly protocol: "tcp" | "udp";
  readonly port: number;
}

export interface FirewallFacts {
  readonly node: string;
  readonly prefix: ClusterPrefix;
  /** This host's number in addresses: nobody else sends from its /64. */
  readonly host?: number;
  /** Interfaces on which other hosts of the cluster are reached: guests of one network talk over them, no others. */
  readonly meshInterfaces: readonly string[];
  readonly hostServices: readonly HostService[];
}

/** One member of one set, as nft writes it. */
export interface FirewallElement {
  readonly set: "guest_ifaces" | "guests_v6" | "guests_v4" | "linked_networks" | EgressSet;
  readonly value: string;
}

const deniedV4 = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "224.0.0.0/3",
];
const deniedV6 = ["::/96", "::ffff:0:0/96", "64:ff9b::/96", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"];

/** @throws HearthError `invalid_argument` for a node name that cannot be part of a table's name */
export function firewallTable(node: string): string {
  if (/^[A-Za-z0-9_-]{1,40}$/.test(node)) return `hearth_${node.replaceAll("-", "_")}`;
  throw new HearthError("invalid_argument", {
    message: "A node name has 1 to 40 letters, digits, `-` and `_`.",
    details: { field: "node" },
  });
}

/**
 * The whole table as one `nft -f` transaction. Sets of machines are declared but not emptied, so that rendering
 * it again on a node with running machines cuts nobody off.
 */
export function renderFirewall(facts: FirewallFacts): string {
  const table = `inet ${firewallTable(facts.node)}`;
  const cluster = formatClusterPrefix(facts.prefix);
  const services = facts.hostServices.map(
    ({ address, protocol, port }) => `${address} . ${protocol} . ${port}`,
  );
  const own = facts.host === undefined ? undefined : hostPrefix(facts.prefix, facts.host);
  const chains = ["prerouting", "input", "forward", "between_guests", "egress", "postrouting"];
  return [
    `add table ${table}`,
    `add set ${table} guest_ifaces { type ifname; }`,
    `add set ${table} guests_v6 { type ifname . ipv6_addr; }`,
    `add set ${table} guests_v4 { type ifname . ipv4_addr; }`,
    `add set ${table} linked_networks { typeof @nh,128,32 . @nh,256,32; }`,
    `add set ${table} paired_networks { typeof @nh,128,32 . @nh,256,32; }`,
    ...egressSets(table),
    `add set ${table} mesh_ifaces { type ifname; }`,
    `add set ${table} host_services { type ipv6_addr . inet_proto . inet_service; }`,
    renderMeshInterfaces(facts),
    `flush set ${table} host_services`,
    ...(services.length > 0 ? [`add element ${table} host_services { ${services.join(", ")} }`] : []),
    `add chain ${table} prerouting { type filter hook prerouting priority raw; policy accept; }`,
    `add chain ${table} input { type filter hook input priority filter; policy accept; }`,
    `add chain ${table} forward { type filter hook forward priority filter; policy accept; }`,
    `add chain ${table} between_guests`,
    `add chain ${table} egress`,
    `add chain ${table} postrouting { type nat hook postrouting priority srcnat; policy accept; }`,
    ...chains.map((chain) => `flush chain ${table} ${chain}`),
    ...rules(cluster, own).map(([chain, rule]) => `add rule ${table} ${chain} ${rule}`),
    "",
  ].join("\n");
}

/** The numbers of two networks. */
export type NetworkPair = readonly [number, number];

/** The members of one set, all at once; the table has to be there. */
export function renderMeshInterfaces({
  node,
  meshInterfaces,
}: Pick<FirewallFacts, "node" | "meshInterfaces">): string {
  const set = `inet ${firewallTable(node)} mesh_ifaces`;
  const names = meshInterfaces.map((name) => `"${name}"`).join(", ");
  return [`flush set ${set}`, ...(names === "" ? [] : [`add element ${set} { ${names} }`]), ""].join("\n");
}

/** Whose guests may talk across two networks, both ways: all of them at once. The table has to be there. */
export function renderPairedNetworks(node: string, pairs: readonly NetworkPair[]): string {
  const set = `inet ${firewallTable(node)} paired_networks`;
  const ways = pairs.flatMap(([one, other]) => [
    `${hex32(one)} . ${hex32(other)}`,
    `${hex32(other)} . ${hex32(one)}`,
  ]);
  const members = [...new Set(ways)].join(", ");
  return [`flush set ${set}`, ...(members === "" ? [] : [`add element ${set} { ${members} }`]), ""].join(
    "\n",
  );
}

/** What addresses of hosts have in common, and those of no guest have: network 0, machine 1. */
const lowHalf = "::ffff:ffff:ffff:ffff";
const hostInterfaceId = "::1";

const neighbours =
  "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } ip6 hoplimit 255 accept";

function rules(cluster: string, own: string | undefined): (readonly [chain: string, rule: string])[] {
  return [
    ...(own === undefined
      ? []
      : [["prerouting", `iifname @mesh_ifaces ip6 saddr ${own} counter drop`] as const]),
    ["prerouting", "iifname != @guest_ifaces accept"],
    ["prerouting", "iifname . ip6 saddr @guests_v6 accept"],
    ["prerouting", "iifname . ip saddr @guests_v4 accept"],
    ["prerouting", "counter drop"],

    ["input", "iifname != @guest_ifaces accept"],
    ["input", "ct state established,related accept"],
    ["input", neighbours],
    ["input", "icmpv6 type echo-request accept"],
    ["input", "ip6 daddr . meta l4proto . th dport @host_services accept"],
    ["input", "counter drop"],

    // Where the way to another host takes less than a guest's own link, both ends of a connection are told at once, and
    // need no message that the packet was too big, which may be lost.
    ["forward", "oifname @mesh_ifaces tcp flags syn tcp option maxseg size set rt mtu"],
    ["forward", "iifname != @guest_ifaces iifname != @mesh_ifaces oifname != @guest_ifaces accept"],
    // Between guests first: a pair that is unlinked is cut off at once, also in the middle of a connection.
    ["forward", `ip6 saddr ${cluster} ip6 daddr ${cluster} goto between_guests`],
    ["forward", "iifname @mesh_ifaces counter drop"],
    ["forward", "ct state invalid counter drop"],
    ["forward", "ct state established,related accept"],
    ["forward", "oifname @guest_ifaces counter drop"],
    ["forward", `ip daddr { ${deniedV4.join(", ")} } counter drop`],
    ["forward", `ip6 daddr { ${deniedV6.join(", ")} } counter drop`],

    ["forward", "goto egress"],
    ...egressRules().map((rule) => ["egress", rule] as const),

    ["between_guests", "iifname != @guest_ifaces iifname != @mesh_ifaces counter drop"],
    // Nothing of the cluster leaves by another way, and a host passes nothing on for others.
    ["between_guests", "oifname != @guest_ifaces oifname != @mesh_ifaces counter drop"],
    ["between_guests", "iifname @mesh_ifaces oifname != @guest_ifaces counter drop"],
    // Another host itself, for its front door: what it begins with a guest, and the guest's answers to that.
    ["between_guests", `iifname @mesh_ifaces ip6 saddr & ${lowHalf} == ${hostInterfaceId} accept`],
    [
      "between_guests",
      `oifname @mesh_ifaces ip6 daddr & ${lowHalf} == ${hostInterfaceId} ct state established,related ct direction reply accept`,
    ],
    ["between_guests", "@nh,128,32 . @nh,256,32 @linked_networks accept"],
    ["between_guests", "@nh,128,32 . @nh,256,32 @paired_networks accept"],
    ["between_guests", "counter drop"],

    ["postrouting", "ip saddr 100.64.0.0/10 oifname != @guest_ifaces masquerade"],
  ];
}

/** Guests of `from` may send to guests of `to`; a network is linked with itself to let its own guests talk. */
export function linkElement(from: number, to: number): FirewallElement {
  return { set: "linked_networks", value: `${hex32(from)} . ${hex32(to)}` };
}

const hex32 = (value: number): string => `0x${value.toString(16).padStart(8, "0")}`;

export function renderElements(node: string, elements: readonly FirewallElement[]): string[] {
  const table = `inet ${firewallTable(node)}`;
  return elements.map(({ set, value }) => `add element ${table} ${set} { ${value} }`);
}

/** Removes members whether they are there or not. */
export function renderElementRemoval(node: string, elements: readonly FirewallElement[]): string[] {
  const table = `inet ${firewallTable(node)}`;
  return elements.flatMap(({ set, value }) => [
    `add element ${table} ${set} { ${value} }`,
    `delete element ${table} ${set} { ${value} }`,
  ]);
}

/** Removes the table whether it is there or not. */
export function renderFirewallRemoval(node: string): string {
  const table = `inet ${firewallTable(node)}`;
  return `add table ${table}\ndelete table ${table}\n`;
}
