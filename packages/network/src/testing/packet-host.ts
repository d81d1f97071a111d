/**
 * A host with guests, made of network namespaces and Hearth's own slots. A guest is a namespace too: one end of a
 * pair stands in the slot for the tap, wired as the tap was.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readdirSync } from "node:fs";
import { parseClusterPrefix } from "../address-plan.ts";
import { NetworkExecutor } from "../executor.ts";
import type { FirewallFacts } from "../firewall-plan.ts";
import {
  type GuestNetwork,
  planSlot,
  planSlotBuild,
  type SlotPlan,
  slotPrefix,
  slotTap,
  slotWire,
} from "../slot-plan.ts";
import { Talker } from "./talker.ts";

export const prefix = parseClusterPrefix("fd12:3456:789a::/48");
export const ip = (...args: string[]): string => execFileSync("ip", args, { encoding: "utf8" });

export interface Guest {
  readonly name: string;
  readonly plan: SlotPlan;
  readonly v6: string;
  readonly v4: string;
  readonly talker: Talker;
}

const bare = (address: string): string => address.split("/")[0] ?? "";

/** Gives an interface the addresses that its guest is told. */
export function dressGuest(space: string, guest: GuestNetwork): void {
  ip("-n", space, "addr", "add", guest.addressV6, "dev", "eth0", "nodad");
  ip("-n", space, "addr", "add", guest.addressV4, "dev", "eth0");
  ip("-n", space, "route", "replace", "default", "via", guest.gatewayV6, "dev", "eth0");
  ip("-n", space, "route", "replace", "default", "via", guest.gatewayV4);
}

export class PacketHost implements AsyncDisposable {
  readonly #run = randomBytes(3).toString("hex");
  /** Of this run alone, so that nothing is shared with a node on the same host. */
  readonly node = `packets${this.#run}`;
  readonly executor: NetworkExecutor;
  readonly #spaces: string[] = [];
  readonly #talkers: Talker[] = [];
  readonly name: string;

  constructor() {
    this.name = this.space("host");
    this.executor = new NetworkExecutor({ namespace: this.name });
  }

  space(name: string): string {
    const full = `hth-test-${this.#run}-${name}`;
    ip("netns", "add", full);
    this.#spaces.push(full);
    ip("-n", full, "link", "set", "lo", "up");
    return full;
  }

  async applyNode(changes: Partial<FirewallFacts> = {}): Promise<void> {
    const facts = { node: this.node, prefix, host: 1, meshInterfaces: [], hostServices: [], ...changes };
    await this.executor.applyNode(facts);
  }

  /** The plan of a machine that need not be there. */
  plan(machine: number, network: number, slot = `${slotPrefix(this.node)}x${machine}`): SlotPlan {
    return planSlot({
      ...{ node: this.node, slot, machineId: machine.toString(16).padStart(14, "0"), egressSlot: machine },
      address: { prefix, host: 1, network, machine },
    });
  }

  async guest(machine: number, network: number): Promise<Guest> {
    const slot = `${slotPrefix(this.node)}${randomBytes(4).toString("hex")}`;
    await this.executor.buildSlot(planSlotBuild({ node: this.node, slot, ownerUid: 0 }));
    const plan = this.plan(machine, network, slot);
    await this.executor.applySlot(plan);
    const name = this.space(`guest${machine}`);
    ip("-n", slot, "link", "del", slotTap);
    ip("-n", slot, "link", "add", slotTap, "type", "veth", "peer", "name", "eth0", "netns", name);
    ip("-n", slot, "link", "set", slotTap, "addrgenmode", "none", "up");
    // The end that stayed has its place for filters already.
    for (const line of [
      "filter del dev up0 ingress",
      ...slotWire(slotTap, "up0"),
      ...slotWire("up0", slotTap),
    ])
      if (line !== "qdisc add dev up0 clsact") execFileSync("tc", ["-n", slot, ...line.split(" ")]);
    const { guest } = plan;
    ip("-n", name, "link", "set", "eth0", "address", guest.mac, "mtu", `${guest.mtu}`, "up");
    dressGuest(name, guest);
    const talker = await this.talker(name);
    return { name, plan, v6: bare(guest.addressV6), v4: bare(guest.addressV4), talker };
  }

  /** Members of so many machines that have no interface. */
  async crowd(count: number): Promise<void> {
    const plans = Array.from({ length: count }, (_, index) => this.plan(1_000 + index, 1_000 + (index % 50)));
    await this.executor.addElements(
      this.node,
      plans.flatMap(({ elements }) => elements),
    );
  }

  async talker(space: string): Promise<Talker> {
    const talker = await Talker.start(space);
    this.#talkers.push(talker);
    return talker;
  }

  /** `<address> … ` of the host's neighbours on an interface, sorted. */
  neighbours(device: string): string[] {
    return ip("-n", this.name, "neigh", "show", "dev", device)
      .split("\n")
      .map((line) => line.trim())
      .filter(Boolean)
      .sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const talker of this.#talkers) await talker[Symbol.asyncDispose]();
    this.executor.close();
    const slots = readdirSync("/run/netns").filter((one) => one.startsWith(slotPrefix(this.node)));
    for (const one of [...slots, ...this.#spaces]) spawnSync("ip", ["netns", "del", one]);
  }
}
