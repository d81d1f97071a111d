/**
 * Applies plans to the kernel. Everything may be done twice: what is there is kept, what is gone already is
 * fine. Only the making of a slot is not repeated: a slot that was not finished is deleted and another one made.
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
import { namespacePath, type SlotBuild, type SlotPlan, type SlotTeardown } from "./slot-plan.ts";

export interface NetworkExecutorOptions {
  /** The network namespace (`ip netns`) to work in; the caller's own when absent. */
  readonly namespace?: string;
  readonly commandTimeoutMs?: number;
  /** Told what is about to be changed in a slot. */
  readonly beforeChange?: (what: string) => void;
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
  readonly #before: (what: string) => void;

  constructor(options: NetworkExecutorOptions = {}) {
    this.#namespace = options.namespace;
    this.#commandTimeoutMs = options.commandTimeoutMs ?? 10_000;
    this.#before = options.beforeChange ?? (() => undefined);
  }

  /** Forwarding and the table of the node. */
  async applyNode(facts: FirewallFacts, signal?: AbortSignal): Promise<void> {
    await this.#nft(renderFirewall(facts), signal);
    await this.#must(["sysctl", "-q", "-w", ...forwarding], "", signal);
  }

  async removeNode(node: string, signal?: AbortSignal): Promise<void> {
    await this.#nft(renderFirewallRemoval(node), signal);
  }

  /**
   * Makes a slot of nobody. The name must be new; what a failure leaves is taken away with `removeSlot`.
   */
  async buildSlot(build: SlotBuild, signal?: AbortSignal): Promise<void> {
    const { slot } = build;
    this.#before("slot closed");
    await this.#nft(renderElements(build.node, build.elements), signal);
    this.#before("slot made");
    await this.#batch(["ip", "-batch", "-"], build.host, signal);
    this.#before("slot furnished");
    await this.#batch(["ip", "-n", slot, "-batch", "-"], build.inside, signal);
    this.#before("slot wired");
    await this.#batch(["tc", "-n", slot, "-batch", "-"], build.wiring, signal);
    this.#before("slot set");
    await this.#must(["sysctl", "-q", "-w", ...build.settings], "", signal);
    this.#before("slot up");
    await this.#batch(["ip", "-batch", "-"], build.up, signal);
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
      this.#batch(["ip", "-batch", "-"], lines, signal),
      this.#nft(renderElements(plan.node, plan.elements), signal),
    ]);
    for (const part of done) if (part.status === "rejected") throw part.reason;
  }

  /** Whether a slot that was made is still there; the host may have restarted. */
  async hasSlot(slot: string, signal?: AbortSignal): Promise<boolean> {
    return existsSync(namespacePath(slot)) && (await this.#hasLink(slot, signal));
  }

  /** Takes members out of the sets of the node's table, whether they are there or not. */
  async removeElements(
    node: string,
    elements: readonly FirewallElement[],
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#nft(renderElementRemoval(node, elements), signal);
  }

  /** The interface goes first: what is out of the sets must not be able to send. */
  async removeSlot({ node, slot, elements }: SlotTeardown, signal?: AbortSignal): Promise<void> {
    this.#before("slot interface removed");
    if (await this.#hasLink(slot, signal)) await this.#delete(slot, ["link", "del", "dev", slot], signal);
    this.#before("slot namespace removed");
    if (existsSync(namespacePath(slot))) await this.#delete(slot, ["netns", "del", slot], signal);
    this.#before("slot members removed");
    if (await this.#hasTable(node, signal)) await this.#nft(renderElementRemoval(node, elements), signal);
  }

  async #delete(slot: string, words: readonly string[], signal: AbortSignal | undefined): Promise<void> {
    const done = await this.#run(["ip", ...words], "", signal);
    if (done.code === 0) return;
    // Somebody may have taken it away between the look and the deed.
    const there = words[0] === "link" ? await this.#hasLink(slot, signal) : existsSync(namespacePath(slot));
    if (there) throw failure(`ip ${words[0]} del`, done);
  }

  async #hasLink(name: string, signal: AbortSignal | undefined): Promise<boolean> {
    // A look costs less than a program. Sysfs shows the namespace of this process.
    if (this.#namespace === undefined) return existsSync(`/sys/class/net/${name}`);
    return (await this.#run(["ip", "link", "show", "dev", name], "", signal)).code === 0;
  }

  async #hasTable(node: string, signal: AbortSignal | undefined): Promise<boolean> {
    return (await this.#run(["nft", "list", "table", "inet", firewallTable(node)], "", signal)).code === 0;
  }

  #batch(
    command: readonly string[],
    lines: readonly string[],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    return this.#must(command, `${lines.join("\n")}\n`, signal);
  }

  #nft(script: string, signal: AbortSignal | undefined): Promise<void> {
    return this.#must(["nft", "-f", "-"], script, signal);
  }

  async #must(command: readonly string[], input: string, signal: AbortSignal | undefined): Promise<void> {
    const done = await this.#run(command, input, signal);
    if (done.code !== 0) throw failure(command.slice(0, 2).join(" "), done);
  }

  #run(command: readonly string[], input: string, signal: AbortSignal | undefined): Promise<Finished> {
    const inside =
      this.#namespace === undefined ? [] : ["nsenter", `--net=${namespacePath(this.#namespace)}`];
    const limit = AbortSignal.timeout(this.#commandTimeoutMs);
    return run(
      [...inside, ...command],
      input,
      signal === undefined ? limit : AbortSignal.any([signal, limit]),
    );
  }
}

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
