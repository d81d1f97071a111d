/**
 * Applies plans to the kernel. Everything may be done twice: what is there is kept, what is gone already is
 * fine. Only the making of a slot is not repeated: a slot that was not finished is deleted and another one made.
 */
import { existsSync } from "node:fs";
import {
  type EgressChange,
  exchangeEgress,
  listNames,
  removeMembers,
  renderNames,
} from "./egress-exchange.ts";
import type { NameElement } from "./egress-names.ts";
import {
  type FirewallElement,
  type FirewallFacts,
  firewallTable,
  type NetworkPair,
  renderElementRemoval,
  renderElements,
  renderFirewall,
  renderFirewallRemoval,
  renderPairedNetworks,
} from "./firewall-plan.ts";
import { HostCommands, refused } from "./host-commands.ts";
import { namespacePath, type SlotBuild, type SlotPlan, type SlotTeardown } from "./slot-plan.ts";

export interface NetworkExecutorOptions {
  /** The network namespace (`ip netns`) to work in; the caller's own when absent. */
  readonly namespace?: string;
  readonly commandTimeoutMs?: number;
  /** Told what is about to be changed in a slot. */
  readonly beforeChange?: (what: string) => void;
}

const forwarding = "net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1".split(" ");

export class NetworkExecutor {
  readonly #namespace: string | undefined;
  readonly #commands: HostCommands;
  readonly #before: (what: string) => void;

  constructor({ namespace, commandTimeoutMs = 10_000, beforeChange }: NetworkExecutorOptions = {}) {
    this.#namespace = namespace;
    this.#commands = new HostCommands({ namespace, timeoutMs: commandTimeoutMs });
    this.#before = beforeChange ?? (() => undefined);
  }

  /** Ends the programs that are kept for quick changes; they end with this process too, and when they idle. */
  close(): void {
    this.#commands.close();
  }

  /** Forwarding and the table of the node. */
  async applyNode(facts: FirewallFacts, signal?: AbortSignal): Promise<void> {
    await this.#commands.nft([renderFirewall(facts)], signal);
    await this.#commands.must(["sysctl", "-q", "-w", ...forwarding], "", signal);
  }

  async removeNode(node: string, signal?: AbortSignal): Promise<void> {
    await this.#commands.nft([renderFirewallRemoval(node)], signal);
  }

  /** Makes a slot of nobody. The name must be new; what a failure leaves is taken away with `removeSlot`. */
  async buildSlot(build: SlotBuild, signal?: AbortSignal): Promise<void> {
    const { slot } = build;
    const commands = this.#commands;
    this.#before("slot closed");
    await commands.quickNft(renderElements(build.node, build.elements), signal);
    this.#before("slot made");
    await commands.batch(["ip"], build.host, signal);
    this.#before("slot furnished");
    await commands.batch(["ip", "-n", slot], build.inside, signal);
    this.#before("slot wired");
    await commands.batch(["tc", "-n", slot], build.wiring, signal);
    this.#before("slot set");
    await commands.must(["sysctl", "-q", "-w", ...build.settings], "", signal);
    this.#before("slot up");
    await commands.quickIp(build.up, signal);
  }

  /** An address of the host itself, on its loopback. */
  async addLocalAddress(address: string, signal?: AbortSignal): Promise<void> {
    await this.#commands.must(["ip", "addr", "replace", localAddress(address), "dev", "lo"], "", signal);
  }

  async removeLocalAddress(address: string, signal?: AbortSignal): Promise<void> {
    const command = ["ip", "addr", "del", localAddress(address), "dev", "lo"];
    const done = await this.#commands.run(command, "", signal);
    // It may be gone already, or never have been there.
    if (done.code !== 0 && !/Cannot assign requested address/.test(done.stderr))
      throw refused("ip addr del", done);
  }

  /** Gives a slot the identity of a machine. */
  async applySlot(plan: SlotPlan, signal?: AbortSignal): Promise<void> {
    const { slot } = plan;
    const lines = [
      ...plan.hostAddresses.map((address) => `addr replace ${address} dev ${slot}`),
      ...plan.routes.map((route) => `route replace ${route} dev ${slot}`),
      ...plan.neighbours.map(
        ({ address, mac }) => `neigh replace ${address} lladdr ${mac} dev ${slot} nud permanent`,
      ),
    ];
    // Both end before this does, so that nothing acts on after a failure.
    const done = await Promise.allSettled([
      this.#commands.quickIp(lines, signal),
      this.addElements(plan.node, plan.elements, signal),
    ]);
    for (const part of done) if (part.status === "rejected") throw part.reason;
  }

  /** Whether a slot that was made is still there; the host may have restarted. */
  async hasSlot(slot: string, signal?: AbortSignal): Promise<boolean> {
    return existsSync(namespacePath(slot)) && (await this.#hasLink(slot, signal));
  }

  /** Lets the guests of these networks talk, and those of no others that are not the same. */
  async pairNetworks(node: string, pairs: readonly NetworkPair[], signal?: AbortSignal): Promise<void> {
    await this.#commands.must(["nft", "-f", "-"], renderPairedNetworks(node, pairs), signal);
  }

  /** Puts members into the sets of the node's table, in one transaction. */
  async addElements(node: string, elements: readonly FirewallElement[], signal?: AbortSignal): Promise<void> {
    await this.#commands.quickNft(renderElements(node, elements), signal);
  }

  /** Takes members out of the sets of the node's table, whether they are there or not. */
  async removeElements(
    node: string,
    elements: readonly FirewallElement[],
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#commands.quickNft(renderElementRemoval(node, elements), signal);
  }

  /** What a slot's machine may send, from one policy to another, in one transaction, whichever of both is there. */
  async exchangeEgress(change: EgressChange, signal?: AbortSignal): Promise<void> {
    this.#before("egress exchanged");
    await exchangeEgress(this.#commands, change, signal);
  }

  /** Members of names, each for its time from now on. */
  async allowNames(node: string, elements: readonly NameElement[], signal?: AbortSignal): Promise<void> {
    await this.#commands.quickNft(renderNames(node, elements), signal);
  }

  /** The members of names that are there, as long as they will be. */
  async listNames(node: string, signal?: AbortSignal): Promise<NameElement[]> {
    return (await this.#hasTable(node, signal)) ? await listNames(this.#commands, node, signal) : [];
  }

  /** The interface goes first: what is out of the sets must not be able to send. */
  async removeSlot(teardown: SlotTeardown, signal?: AbortSignal): Promise<void> {
    const { node, slot } = teardown;
    this.#before("slot interface removed");
    if (await this.#hasLink(slot, signal)) await this.#delete(slot, ["link", "del", "dev", slot], signal);
    this.#before("slot namespace removed");
    if (existsSync(namespacePath(slot))) await this.#delete(slot, ["netns", "del", slot], signal);
    this.#before("slot members removed");
    if (await this.#hasTable(node, signal)) await removeMembers(this.#commands, teardown, signal);
  }

  async #delete(slot: string, words: readonly string[], signal: AbortSignal | undefined): Promise<void> {
    const done = await this.#commands.run(["ip", ...words], "", signal);
    if (done.code === 0) return;
    // Somebody may have taken it away between the look and the deed.
    const there = words[0] === "link" ? await this.#hasLink(slot, signal) : existsSync(namespacePath(slot));
    if (there) throw refused(`ip ${words[0]} del`, done);
  }

  async #hasLink(name: string, signal: AbortSignal | undefined): Promise<boolean> {
    // A look costs less than a program. Sysfs shows the namespace of this process.
    if (this.#namespace === undefined) return existsSync(`/sys/class/net/${name}`);
    return (await this.#commands.run(["ip", "link", "show", "dev", name], "", signal)).code === 0;
  }

  async #hasTable(node: string, signal: AbortSignal | undefined): Promise<boolean> {
    const look = ["nft", "list", "tables", "inet"];
    const { stdout } = await this.#commands.run(look, "", signal);
    return stdout.split("\n").includes(`table inet ${firewallTable(node)}`);
  }
}
const localAddress = (address: string): string => `${address}/${address.includes(":") ? 128 : 32}`;
