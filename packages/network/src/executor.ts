/**
 * Applies plans to the kernel. Everything may be done twice: what is there is kept, what is gone already is
 * fine. A machine's members of the firewall's sets are made beside its tap, as both are there before the VMM
 * opens it, and are taken away before it goes.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { HearthError } from "@hearth/errors";
import {
  type FirewallElement,
  type FirewallFacts,
  firewallTable,
  renderElementRemoval,
  renderElements,
  renderFirewall,
  renderFirewallRemoval,
} from "./firewall-plan.ts";
import type { SlotPlan, SlotTeardown } from "./slot-plan.ts";

export interface NetworkExecutorOptions {
  /** The network namespace (`ip netns`) to work in; the caller's own when absent. */
  readonly namespace?: string;
  readonly commandTimeoutMs?: number;
}

interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const forwarding = "net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1".split(" ");

export class NetworkExecutor {
  readonly #namespace: string | undefined;
  readonly #commandTimeoutMs: number;

  constructor(options: NetworkExecutorOptions = {}) {
    this.#namespace = options.namespace;
    this.#commandTimeoutMs = options.commandTimeoutMs ?? 10_000;
  }

  /** Forwarding and the table of the node. */
  async applyNode(facts: FirewallFacts, signal?: AbortSignal): Promise<void> {
    await this.#nft(renderFirewall(facts), signal);
    await this.#must(["sysctl", "-q", "-w", ...forwarding], "", signal);
  }

  async removeNode(node: string, signal?: AbortSignal): Promise<void> {
    await this.#nft(renderFirewallRemoval(node), signal);
  }

  /** An address of the host itself, on its loopback. */
  async addLocalAddress(address: string, signal?: AbortSignal): Promise<void> {
    await this.#must(["ip", "addr", "replace", localAddress(address), "dev", "lo"], "", signal);
  }

  async removeLocalAddress(address: string, signal?: AbortSignal): Promise<void> {
    const command = ["ip", "addr", "del", localAddress(address), "dev", "lo"];
    const done = await this.#run(command, "", signal);
    // It may be gone already, or never have been there.
    if (done.code !== 0 && !/Cannot assign requested address/.test(done.stderr))
      throw failure("ip addr del", done);
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
    if (done.code !== 0 && (await this.#hasLink(name, signal))) throw failure("ip link del", done);
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

  #nft(script: string, signal: AbortSignal | undefined): Promise<void> {
    return this.#must(["nft", "-f", "-"], script, signal);
  }

  async #must(command: readonly string[], input: string, signal: AbortSignal | undefined): Promise<void> {
    const done = await this.#run(command, input, signal);
    if (done.code !== 0) throw failure(command.slice(0, 2).join(" "), done);
  }

  #run(command: readonly string[], input: string, signal: AbortSignal | undefined): Promise<Finished> {
    const inside = this.#namespace === undefined ? [] : ["ip", "netns", "exec", this.#namespace];
    const limit = AbortSignal.timeout(this.#commandTimeoutMs);
    return run(
      [...inside, ...command],
      input,
      signal === undefined ? limit : AbortSignal.any([signal, limit]),
    );
  }
}

const localAddress = (address: string): string => `${address}/${address.includes(":") ? 128 : 32}`;

function failure(what: string, done: Finished): HearthError {
  return new HearthError("internal", {
    message: "The host refused a change of its network; the service's log names the cause.",
    cause: new Error(`${what} ended with ${done.code}: ${done.stderr.trim()}`),
  });
}

function run(
  [program = "", ...args]: readonly string[],
  input: string,
  signal: AbortSignal,
): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { signal, stdio: "pipe" });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      stdout += chunk;
    });
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      stderr += chunk;
    });
    // A program that ends without reading its input breaks the pipe; its exit code says why.
    child.stdin.on("error", () => undefined);
    child.on("error", (cause: NodeJS.ErrnoException) => {
      if (cause.code === "ENOENT")
        reject(new HearthError("host_requirement_missing", { details: { program }, cause }));
      else reject(new HearthError(cause.name === "AbortError" ? "deadline_exceeded" : "internal", { cause }));
    });
    child.on("close", (code) => resolve({ code, stdout, stderr }));
    child.stdin.end(input);
  });
}
