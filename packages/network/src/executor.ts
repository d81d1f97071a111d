/**
 * Applies plans to the kernel. Everything may be done twice: what is there is kept, what is gone already is
 * fine. A machine's members of the firewall's sets are made beside its tap, as both are there before the VMM
 * opens it, and are taken away before it goes.
 */
import { existsSync } from "node:fs";
import {
  type FirewallElement,
  type FirewallFacts,
  firewallTable,
  renderElementRemoval,
  renderElements,
  renderFirewall,
  renderFirewallRemoval,
} from "./firewall-plan.ts";
import { type Finished, HostCommands, type HostCommandsOptions, refused } from "./host-commands.ts";
import type { SlotPlan, SlotTeardown } from "./slot-plan.ts";

const forwarding = "net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1".split(" ");

export class NetworkExecutor {
  readonly #namespace: string | undefined;
  readonly #commands: HostCommands;

  constructor(options: HostCommandsOptions = {}) {
    this.#namespace = options.namespace;
    this.#commands = new HostCommands(options);
  }

  /** Forwarding and the table of the node. */
  async applyNode(facts: FirewallFacts, signal?: AbortSignal): Promise<void> {
    await this.#nft(renderFirewall(facts), signal);
    await this.#must(["sysctl", "-q", "-w", ...forwarding], "", signal);
  }

  async removeNode(node: string, signal?: AbortSignal): Promise<void> {
    await this.#nft(renderFirewallRemoval(node), signal);
  }

  async applySlot(plan: SlotPlan, signal?: AbortSignal): Promise<void> {
    const { name, ownerUid, mtu } = plan.tap;
    const owner = await this.#tapOwner(name, signal);
    const lines = [`link set dev ${name} mtu ${mtu} up`];
    for (const address of plan.hostAddresses)
      lines.push(`addr replace ${address} dev ${name}${address.includes(":") ? " nodad" : ""}`);
    for (const route of plan.routes) lines.push(`route replace ${route} dev ${name}`);
    if (owner !== ownerUid) lines.unshift(`tuntap add dev ${name} mode tap user ${ownerUid} vnet_hdr`);
    // A tap of another owner cannot be handed over; it is a leftover and made anew.
    if (owner !== undefined && owner !== ownerUid) lines.unshift(`link del dev ${name}`);
    const done = await Promise.allSettled([
      this.#must(["ip", "-batch", "-"], `${lines.join("\n")}\n`, signal),
      this.#nft(renderElements(plan.node, plan.elements), signal),
    ]);
    for (const part of done) if (part.status === "rejected") throw part.reason;
  }

  /** Takes members out of the sets of the node's table, whether they are there or not. */
  async removeElements(
    node: string,
    elements: readonly FirewallElement[],
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#nft(renderElementRemoval(node, elements), signal);
  }

  async removeSlot(teardown: SlotTeardown, signal?: AbortSignal): Promise<void> {
    if (await this.#hasTable(teardown.node, signal))
      await this.#nft(renderElementRemoval(teardown.node, teardown.elements), signal);
    if (await this.#hasLink(teardown.tapName, signal)) await this.#deleteLink(teardown.tapName, signal);
  }

  async #deleteLink(name: string, signal: AbortSignal | undefined): Promise<void> {
    const done = await this.#run(["ip", "link", "del", "dev", name], "", signal);
    // The VMM's end may have taken the tap away between the look and the deed.
    if (done.code !== 0 && (await this.#hasLink(name, signal))) throw refused("ip link del", done);
  }

  async #hasLink(name: string, signal: AbortSignal | undefined): Promise<boolean> {
    return (await this.#run(["ip", "link", "show", "dev", name], "", signal)).code === 0;
  }

  async #hasTable(node: string, signal: AbortSignal | undefined): Promise<boolean> {
    return (await this.#run(["nft", "list", "table", "inet", firewallTable(node)], "", signal)).code === 0;
  }

  /** The uid that may open the tap; undefined when there is no such interface, -1 when it is no one's tap. */
  async #tapOwner(name: string, signal: AbortSignal | undefined): Promise<number | undefined> {
    // Most often there is none, and a look costs less than a program. Sysfs shows the namespace of this process.
    if (this.#namespace === undefined && !existsSync(`/sys/class/net/${name}`)) return undefined;
    const shown = await this.#run(["ip", "-j", "-N", "-d", "link", "show", "dev", name], "", signal);
    if (shown.code !== 0) return undefined;
    const [link] = JSON.parse(shown.stdout) as { linkinfo?: { info_data?: { user?: string | number } } }[];
    const user = link?.linkinfo?.info_data?.user;
    return user === undefined ? -1 : Number(user);
  }

  async #nft(script: string, signal: AbortSignal | undefined): Promise<void> {
    await this.#must(["nft", "-f", "-"], script, signal);
  }

  #must(command: readonly string[], input: string, signal: AbortSignal | undefined): Promise<string> {
    return this.#commands.must(command, input, signal);
  }

  #run(command: readonly string[], input: string, signal: AbortSignal | undefined): Promise<Finished> {
    return this.#commands.run(command, input, signal);
  }
}
