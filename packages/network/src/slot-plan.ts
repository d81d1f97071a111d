/**
 * What one machine needs of its host's network, from facts: a tap that its VMM may open, the host's side of its
 * addresses, routes to the guest, and its members of the firewall's sets. Pure; the executor applies it.
 *
 * The guest's gateway is the same link-local address on every tap, so an address of the guest is all that
 * differs from one guest to the next.
 */
import { createHash } from "node:crypto";
import { HearthError } from "@hearth/errors";
import { egressPair, formatMachineAddress, type MachineAddress } from "./address-plan.ts";
import { type FirewallElement, linkElement } from "./firewall-plan.ts";

export const guestGatewayV6 = "fe80::1";
const interfaceNameLimit = 15;

export interface SlotFacts {
  readonly node: string;
  readonly machineId: string;
  readonly address: MachineAddress;
  /** Of the pairs of IPv4 egress addresses. */
  readonly egressSlot: number;
  /** The user that the VMM runs as; only it may open the tap. */
  readonly ownerUid: number;
  readonly mtu?: number;
}

export interface SlotPlan {
  readonly node: string;
  readonly tap: { readonly name: string; readonly ownerUid: number; readonly mtu: number };
  /** The host's side, with prefix lengths. */
  readonly hostAddresses: readonly string[];
  /** Routed to the tap. */
  readonly routes: readonly string[];
  readonly elements: readonly FirewallElement[];
  /** What the guest is told at boot. */
  readonly guest: {
    readonly mac: string;
    readonly addressV6: string;
    readonly gatewayV6: string;
    readonly addressV4: string;
    readonly gatewayV4: string;
    readonly mtu: number;
  };
}

export interface SlotTeardown {
  readonly node: string;
  readonly tapName: string;
  /** Not the network's link: other machines of the network may be on this host. */
  readonly elements: readonly FirewallElement[];
}

const digestOf = (text: string): string => createHash("sha256").update(text).digest("hex");

/**
 * What the names of all taps of a node begin with, so that its worker knows its own orphans and never takes
 * those of another node on the same host for them.
 */
export const tapPrefix = (node: string): string => `hth${digestOf(`node\0${node}`).slice(0, 4)}`;

/** As long as the kernel allows, and the same for the same machine on the same node. */
export function tapName(node: string, machineId: string): string {
  const prefix = tapPrefix(node);
  return `${prefix}${digestOf(`${node}\0${machineId}`).slice(0, interfaceNameLimit - prefix.length)}`;
}

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

/** @throws HearthError `invalid_argument` for numbers that no address has */
export function planSlot(facts: SlotFacts): SlotPlan {
  if (facts.address.network === 0)
    throw new HearthError("invalid_argument", {
      message: "Network 0 is the host's own; give the machine another network.",
      details: { field: "network" },
    });
  const name = tapName(facts.node, facts.machineId);
  const addressV6 = formatMachineAddress(facts.address);
  const { hostV4, guestV4, prefixLength } = egressPair(facts.egressSlot);
  const mtu = facts.mtu ?? 1420;
  return {
    node: facts.node,
    tap: { name, ownerUid: facts.ownerUid, mtu },
    hostAddresses: [`${guestGatewayV6}/64`, `${hostV4}/${prefixLength}`],
    routes: [`${addressV6}/128`],
    elements: [
      { set: "guest_ifaces", value: `"${name}"` },
      { set: "guests_v6", value: `"${name}" . ${addressV6}` },
      { set: "guests_v4", value: `"${name}" . ${guestV4}` },
      linkElement(facts.address.network, facts.address.network),
    ],
    guest: {
      mac: guestMac(facts.machineId),
      addressV6: `${addressV6}/128`,
      gatewayV6: guestGatewayV6,
      addressV4: `${guestV4}/${prefixLength}`,
      gatewayV4: hostV4,
      mtu,
    },
  };
}

/** Addresses and routes go with the tap. */
export function planTeardown(plan: SlotPlan): SlotTeardown {
  const elements = plan.elements.filter(({ set }) => set !== "linked_networks");
  return { node: plan.node, tapName: plan.tap.name, elements };
}
