/**
 * What one machine needs of its host's network, from facts. Pure; the executor applies it.
 *
 * A slot is a network namespace with the tap that a VMM opens, wired to one interface of the host. It is made
 * ahead of need and belongs to nobody (`planSlotBuild`); a machine that claims it gives it an identity: the
 * host's side of its addresses, routes to the guest, its neighbours, its members of the firewall's sets
 * (`planSlot`). Inside of the namespace nothing changes any more, so a claim is one transaction of the firewall
 * and one batch of the host's addresses. A slot is used once and then deleted, never scrubbed.
 *
 * The guest's gateway is the same link-local address on every slot, so an address of the guest is all that
 * differs from one guest to the next. What the host knows of a guest's neighbours is fixed, so that nothing that
 * a guest says on its wire changes it.
 */
import { createHash } from "node:crypto";
import { HearthError } from "@hearth/errors";
import { egressPair, formatIpv6, formatMachineAddress, type MachineAddress } from "./address-plan.ts";
import { type EgressPolicy, egressElements } from "./egress-plan.ts";
import { type FirewallElement, linkElement } from "./firewall-plan.ts";

export const guestGatewayV6 = "fe80::1";
/** The tap in each namespace: the same name everywhere, so that a clone of a VM finds its own. */
export const slotTap = "tap0";
const slotUplink = "up0";
const defaultMtu = 1420;
const slotIdBytes = 4;

export interface SlotBuildFacts {
  readonly node: string;
  /** Of the namespace, and of the host's interface to it. */
  readonly slot: string;
  /** The user that the VMM runs as; only it may open the tap. */
  readonly ownerUid: number;
  readonly mtu?: number;
}

/** Lines for `ip -batch` and `tc -batch`, in the order of the fields. */
export interface SlotBuild {
  readonly node: string;
  readonly slot: string;
  /** Before there is an interface: what comes out of a slot of nobody is dropped. */
  readonly elements: readonly FirewallElement[];
  readonly host: readonly string[];
  readonly inside: readonly string[];
  readonly wiring: readonly string[];
  readonly settings: readonly string[];
  /** The last act: what has it is whole. */
  readonly up: readonly string[];
}

/** Lines for `tc`: all that comes in at one interface goes out at the other. */
export const slotWire = (from: string, to: string): string[] => [
  `qdisc add dev ${from} clsact`,
  `filter add dev ${from} ingress protocol all u32 match u32 0 0 action mirred egress redirect dev ${to}`,
];

/**
 * The two ends in the namespace are one wire: what comes in at one goes out at the other, before the namespace's
 * own network sees it.
 */
export function planSlotBuild({ node, slot, ownerUid, mtu = defaultMtu }: SlotBuildFacts): SlotBuild {
  return {
    node,
    slot,
    elements: [interfaceElement(slot)],
    host: [
      `netns add ${slot}`,
      `link add ${slot} mtu ${mtu} type veth peer name ${slotUplink} mtu ${mtu} netns ${slot}`,
      // No address but those of the plan, so nothing is announced under others.
      `link set dev ${slot} addrgenmode none`,
      `addr add ${guestGatewayV6}/64 dev ${slot} nodad`,
    ],
    inside: [
      `tuntap add dev ${slotTap} mode tap user ${ownerUid} vnet_hdr`,
      `link set dev ${slotTap} mtu ${mtu} addrgenmode none up`,
      `link set dev ${slotUplink} addrgenmode none up`,
    ],
    wiring: [...slotWire(slotTap, slotUplink), ...slotWire(slotUplink, slotTap)],
    settings: [
      // A sender whose way back is another interface is dropped, also one that only asks for a neighbour.
      `net.ipv4.conf.${slot}.rp_filter=1`,
      // The host answers for the address of this interface, and for no other of its own.
      `net.ipv4.conf.${slot}.arp_ignore=1`,
      `net.ipv6.conf.${slot}.accept_ra=0`,
    ],
    up: [`link set dev ${slot} up`],
  };
}

export interface SlotFacts extends GuestFacts {
  readonly node: string;
  readonly slot: string;
  /**
   * Absent: everything that guests may reach at all. What is taken away must be what was applied, so a teardown needs
   * the policy that the slot was claimed with, not the one of an update that replaces the machine.
   */
  readonly egress?: EgressPolicy;
}

export interface GuestFacts {
  readonly machineId: string;
  readonly address: MachineAddress;
  /** Of the pairs of IPv4 egress addresses. */
  readonly egressSlot: number;
  readonly mtu?: number;
}

/** What the guest is told at boot, with prefix lengths. */
export interface GuestNetwork {
  readonly mac: string;
  readonly addressV6: string;
  readonly gatewayV6: string;
  readonly addressV4: string;
  readonly gatewayV4: string;
  readonly mtu: number;
}

export interface SlotPlan {
  readonly node: string;
  readonly slot: string;
  /** The host's side, with prefix lengths; the gateway is there since the slot was made. */
  readonly hostAddresses: readonly string[];
  /** Routed to the slot. */
  readonly routes: readonly string[];
  readonly neighbours: readonly { readonly address: string; readonly mac: string }[];
  readonly elements: readonly FirewallElement[];
  readonly guest: GuestNetwork;
}

export interface SlotTeardown {
  readonly node: string;
  readonly slot: string;
  /** Not the network's link: other machines of the network may be on this host. */
  readonly elements: readonly FirewallElement[];
  /** Its egress policy was being changed, so its members may be those of one policy or of another. */
  readonly egressUnsure?: boolean;
}

const digestOf = (text: string): string => createHash("sha256").update(text).digest("hex");

/**
 * What the names of all slots of a node begin with, so that its worker knows its own orphans and never takes
 * those of another node on the same host for them.
 */
export const slotPrefix = (node: string): string => `hth${digestOf(`node\0${node}`).slice(0, 4)}`;

/** As long as the kernel allows for an interface. */
export const newSlotName = (node: string, randomBytes: (length: number) => Uint8Array): string =>
  `${slotPrefix(node)}${Buffer.from(randomBytes(slotIdBytes)).toString("hex")}`;

/** Where `ip netns` keeps namespaces by name. */
export const namespacePath = (slot: string): string => `/run/netns/${slot}`;

/**
 * Where a node begins to count its egress slots. Hosts never share these addresses, but two nodes on one host
 * (a platform beside another, or a test) would both start at the first.
 */
export const firstEgressSlot = (node: string): number =>
  (Number.parseInt(digestOf(`egress\0${node}`).slice(0, 8), 16) % 1024) * 2048;

/** A locally administered unicast address, fixed for the machine. */
export function guestMac(machineId: string): string {
  const digest = digestOf(`mac\0${machineId}`);
  return `02:${digest.slice(0, 10).replace(/..(?=.)/g, "$&:")}`;
}

/** The address that a kernel gives itself on a link (RFC 4291, appendix A); neighbours are asked from it. */
export function linkLocalOf(mac: string): string {
  const bits = BigInt(`0x${mac.replaceAll(":", "")}`) ^ (2n << 40n);
  const [vendor, device] = [bits >> 24n, bits & 0xffffffn];
  return formatIpv6((0xfe80n << 112n) | (vendor << 40n) | (0xfffen << 24n) | device);
}

/** @throws HearthError `invalid_argument` for numbers that no address has */
export function planGuest({ machineId, address, egressSlot, mtu = defaultMtu }: GuestFacts): GuestNetwork {
  if (address.network === 0)
    throw new HearthError("invalid_argument", {
      message: "Network 0 is the host's own; give the machine another network.",
      details: { field: "network" },
    });
  const { hostV4, guestV4, prefixLength } = egressPair(egressSlot);
  return {
    mac: guestMac(machineId),
    addressV6: `${formatMachineAddress(address)}/128`,
    gatewayV6: guestGatewayV6,
    addressV4: `${guestV4}/${prefixLength}`,
    gatewayV4: hostV4,
    mtu,
  };
}

/** @throws HearthError `invalid_argument` for numbers that no address has */
export function planSlot(facts: SlotFacts): SlotPlan {
  const { node, slot } = facts;
  const guest = planGuest(facts);
  const { network } = facts.address;
  const addressV6 = formatMachineAddress(facts.address);
  const { hostV4, guestV4, prefixLength } = egressPair(facts.egressSlot);
  const linkLocal = linkLocalOf(guest.mac);
  return {
    node,
    slot,
    hostAddresses: [`${hostV4}/${prefixLength}`],
    routes: [`${addressV6}/128`],
    neighbours: [addressV6, linkLocal, guestV4].map((address) => ({ address, mac: guest.mac })),
    elements: [
      interfaceElement(slot),
      { set: "guests_v6", value: `"${slot}" . ${addressV6}` },
      { set: "guests_v6", value: `"${slot}" . ${linkLocal}` },
      { set: "guests_v4", value: `"${slot}" . ${guestV4}` },
      linkElement(network, network),
      ...(facts.egress === undefined ? [] : egressElements(slot, facts.egress)),
    ],
    guest,
  };
}

const interfaceElement = (slot: string): FirewallElement => ({ set: "guest_ifaces", value: `"${slot}"` });

/** Addresses, routes and neighbours go with the interface. */
export function planTeardown({ node, slot, elements }: SlotPlan): SlotTeardown {
  return { node, slot, elements: elements.filter(({ set }) => set !== "linked_networks") };
}

/** Of a slot that nobody has claimed. */
export const planUnclaimedTeardown = (node: string, slot: string): SlotTeardown => ({
  node,
  slot,
  elements: [interfaceElement(slot)],
});
