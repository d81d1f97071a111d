/**
 * Reads and changes the mesh of one node in the kernel. Links are made here where the kernel has WireGuard; where it
 * has not, a link is there when somebody has started `wireguard-go` for it, and goes when that ends.
 */
import { randomBytes } from "node:crypto";
import { type FirewallFacts, renderMeshInterfaces } from "./firewall-plan.ts";
import { HostCommands, type HostCommandsOptions, refused } from "./host-commands.ts";
import type { MeshChanges, ObservedLink, ObservedMesh, ObservedPeer } from "./mesh-diff.ts";
import { type MeshPlan, meshPrefix, type Underlay } from "./mesh-plan.ts";

interface ShownLink {
  readonly ifname: string;
  readonly mtu: number;
  readonly flags: readonly string[];
  readonly addr_info?: readonly { readonly local: string; readonly scope: string }[];
}

interface ShownRoute {
  readonly type?: string;
  readonly dst: string;
  readonly dev?: string;
  readonly prefsrc?: string;
  readonly protocol?: string;
  readonly metrics?: readonly { readonly mtu?: number }[];
}

export class MeshExecutor {
  readonly #commands: HostCommands;

  constructor(options: HostCommandsOptions = {}) {
    this.#commands = new HostCommands(options);
  }

  /** By trying: a module that could be loaded is loaded, and one that is there may be of no use. */
  async hasKernelWireguard(signal?: AbortSignal): Promise<boolean> {
    const name = `hwgt${randomBytes(4).toString("hex")}`;
    const made = await this.#commands.run(["ip", "link", "add", name, "type", "wireguard"], "", signal);
    if (made.code !== 0) return false;
    await this.#commands.must(["ip", "link", "del", "dev", name], "", signal);
    return true;
  }

  /** Undefined when no interface has the address. */
  async underlay(address: string, signal?: AbortSignal): Promise<Underlay | undefined> {
    const link = (await this.#links(signal)).find(({ addr_info = [] }) =>
      addr_info.some(({ local }) => local === address),
    );
    return link === undefined ? undefined : { address, mtu: link.mtu };
  }

  async observe({ node, cluster }: Pick<MeshPlan, "node" | "cluster">, signal?: AbortSignal) {
    const prefix = meshPrefix(node);
    const shown = (await this.#links(signal)).filter(({ ifname }) => ifname.startsWith(prefix));
    const links = await Promise.all(shown.map((link) => this.#look(link, signal)));
    const routes = await this.#json<ShownRoute>(["ip", "-6", "-j", "route", "show", "table", "main"], signal);
    const observed: ObservedMesh = {
      links: links.filter((link) => link !== undefined),
      routes: routes
        .filter(({ dev, protocol }) => dev?.startsWith(prefix) === true && protocol !== "kernel")
        .map(({ dst, dev = "", prefsrc, metrics = [] }) => ({
          ...{ to: dst, dev, source: prefsrc },
          mtu: metrics.find(({ mtu }) => mtu !== undefined)?.mtu,
        })),
      isClosed: routes.some(({ type, dst }) => type === "unreachable" && dst === cluster),
    };
    return observed;
  }

  /** What is missing is left out: it is made first, by `makeKernelLink` or by a process. */
  async apply({ wireguard, ip }: MeshChanges, signal?: AbortSignal): Promise<void> {
    for (const args of wireguard) await this.#commands.must(["wg", ...args], "", signal);
    if (ip.length > 0) await this.#commands.must(["ip", "-6", "-batch", "-"], `${ip.join("\n")}\n`, signal);
  }

  /** @throws HearthError `internal` when it is there already */
  async makeKernelLink(name: string, signal?: AbortSignal): Promise<void> {
    await this.#commands.must(["ip", "link", "add", name, "type", "wireguard"], "", signal);
  }

  /** Also when it is gone. */
  async removeLink(name: string, signal?: AbortSignal): Promise<void> {
    const done = await this.#commands.run(["ip", "link", "del", "dev", name], "", signal);
    if (done.code !== 0 && (await this.#links(signal)).some(({ ifname }) => ifname === name))
      throw refused("ip link del", done);
  }

  /** Takes back that the cluster is unreachable; routes to hosts go with their links. */
  async open(cluster: string, signal?: AbortSignal): Promise<void> {
    const routes = await this.#json<ShownRoute>(["ip", "-6", "-j", "route", "show", "table", "main"], signal);
    if (routes.some(({ type, dst }) => type === "unreachable" && dst === cluster))
      await this.#commands.must(["ip", "-6", "route", "del", "unreachable", cluster], "", signal);
  }

  /** From these interfaces the firewall takes what is meant for guests. They need not be there yet. */
  async admit(facts: Pick<FirewallFacts, "node" | "meshInterfaces">, signal?: AbortSignal): Promise<void> {
    await this.#commands.must(["nft", "-f", "-"], renderMeshInterfaces(facts), signal);
  }

  async #look(link: ShownLink, signal: AbortSignal | undefined): Promise<ObservedLink | undefined> {
    const dump = await this.#commands.run(["wg", "show", link.ifname, "dump"], "", signal);
    // A process that has just been started, or has just ended, has an interface and answers nothing.
    if (dump.code !== 0) return undefined;
    return {
      name: link.ifname,
      mtu: link.mtu,
      isUp: link.flags.includes("UP"),
      addresses: (link.addr_info ?? []).filter(({ scope }) => scope === "global").map(({ local }) => local),
      ...parseDump(dump.stdout),
    };
  }

  #links(signal: AbortSignal | undefined): Promise<ShownLink[]> {
    return this.#json<ShownLink>(["ip", "-j", "addr", "show"], signal);
  }

  async #json<T>(command: readonly string[], signal: AbortSignal | undefined): Promise<T[]> {
    const text = await this.#commands.must(command, "", signal);
    return text.trim() === "" ? [] : (JSON.parse(text) as T[]);
  }
}

/** Of `wg show <interface> dump` (wg(8)). The first field is the private key, which goes no further than this. */
export function parseDump(text: string): Pick<ObservedLink, "publicKey" | "port" | "peers"> {
  const [own = "", ...others] = text.trim().split("\n");
  const [, publicKey = "(none)", port = "0"] = own.split("\t");
  return {
    publicKey: publicKey === "(none)" ? undefined : publicKey,
    port: Number(port),
    peers: others.map((line): ObservedPeer => {
      const [key = "", , endpoint = "", allowed = "", handshake, rx, tx, keepalive] = line.split("\t");
      return {
        publicKey: key,
        endpoint: endpoint === "(none)" ? undefined : endpoint,
        allowedIps: allowed === "(none)" ? [] : allowed.split(","),
        keepaliveSeconds: keepalive === "off" ? 0 : Number(keepalive),
        handshakeAtSeconds: Number(handshake),
        rxBytes: Number(rx),
        txBytes: Number(tx),
      };
    }),
  };
}
