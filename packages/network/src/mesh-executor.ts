/**
 * Reads and changes the mesh of one node in the kernel. Links are made here where the kernel has WireGuard; where it
 * has not, a link is there when somebody has started `wireguard-go` for it, and goes when that ends.
 */
import { type FirewallFacts, renderMeshInterfaces } from "./firewall-plan.ts";
import { HostCommands, refused } from "./host-commands.ts";
import { canonicalIp } from "./ip-text.ts";
import type { MeshChanges, ObservedLink, ObservedMesh, ObservedPeer, ObservedRoute } from "./mesh-diff.ts";
import { type MeshPlan, meshPrefix, type Underlay } from "./mesh-plan.ts";

interface ShownLink {
  readonly ifname: string;
  readonly mtu: number;
  readonly flags: readonly string[];
  readonly addr_info?: readonly { readonly local: string; readonly scope: string }[];
}

interface ShownRoute extends ObservedRoute {
  /** `unicast` for one that leads somewhere. */
  readonly type: string;
  readonly isOfKernel: boolean;
}

export interface MeshExecutorOptions {
  /** The network namespace (`ip netns`) to work in; the caller's own when absent. */
  readonly namespace?: string;
  readonly commandTimeoutMs?: number;
}

export class MeshExecutor {
  readonly #commands: HostCommands;

  constructor({ namespace, commandTimeoutMs = 10_000 }: MeshExecutorOptions = {}) {
    this.#commands = new HostCommands({ namespace, timeoutMs: commandTimeoutMs });
  }

  /**
   * By trying: a module that could be loaded is loaded, and one that is there may be of no use. In a namespace that is
   * the command's own and goes with it, so that nothing stays, however it ends.
   */
  async hasKernelWireguard(signal?: AbortSignal): Promise<boolean> {
    const probe = ["unshare", "--net", "ip", "link", "add", "probe0", "type", "wireguard"];
    return (await this.#commands.run(probe, "", signal)).code === 0;
  }

  /**
   * Has the host's TCP find out by itself what goes through where big packets vanish and nobody says so (RFC 4821): no
   * interface knows what the way between two hosts takes. One that is set to more than this stays.
   */
  async probeSilentWays(signal?: AbortSignal): Promise<void> {
    const setting = "net.ipv4.tcp_mtu_probing";
    const { stdout } = await this.#commands.run(["sysctl", "-n", setting], "", signal);
    // Where it cannot be set, the mesh is what it was.
    if (stdout.trim() === "0") await this.#commands.run(["sysctl", "-q", "-w", `${setting}=1`], "", signal);
  }

  /** Undefined when no interface has the address. */
  async underlay(address: string, signal?: AbortSignal): Promise<Underlay | undefined> {
    const link = (await this.#links(signal)).find(({ addr_info = [] }) =>
      addr_info.some(({ local }) => canonicalIp(local) === canonicalIp(address)),
    );
    return link === undefined ? undefined : { address, mtu: link.mtu };
  }

  async observe({ node, cluster }: Pick<MeshPlan, "node" | "cluster">, signal?: AbortSignal) {
    const prefix = meshPrefix(node);
    const shown = (await this.#links(signal)).filter(({ ifname }) => ifname.startsWith(prefix));
    const links = await Promise.all(shown.map((link) => this.#look(link, signal)));
    const routes = await this.#routes(signal);
    const observed: ObservedMesh = {
      links: links.filter((link) => link !== undefined),
      routes: routes
        .filter(({ dev, isOfKernel }) => dev.startsWith(prefix) && !isOfKernel)
        .map(({ type: _type, isOfKernel: _isOfKernel, ...route }) => route),
      isClosed: routes.some(({ type, to }) => type === "unreachable" && to === cluster),
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
    if ((await this.#routes(signal)).some(({ type, to }) => type === "unreachable" && to === cluster))
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

  async #links(signal: AbortSignal | undefined): Promise<ShownLink[]> {
    const text = await this.#commands.must(["ip", "-j", "addr", "show"], "", signal);
    return JSON.parse(text) as ShownLink[];
  }

  async #routes(signal: AbortSignal | undefined): Promise<ShownRoute[]> {
    const text = await this.#commands.must(["ip", "-6", "route", "show", "table", "main"], "", signal);
    return parseRoutes(text);
  }
}

/** As text, because the JSON of iproute2 (6.1) does not say whether an MTU is locked. */
export function parseRoutes(text: string): ShownRoute[] {
  const lines = text.split("\n").map((line) => line.trim().split(/\s+/));
  return lines
    .filter(([first = ""]) => first !== "")
    .map((words) => {
      const isTyped = /^(unreachable|blackhole|prohibit|throw|multicast|local|anycast)$/.test(words[0] ?? "");
      const after = (name: string): string | undefined => {
        const place = words.indexOf(name);
        return place === -1 ? undefined : words[place + 1];
      };
      const isLocked = after("mtu") === "lock";
      const mtu = isLocked ? after("lock") : after("mtu");
      return {
        type: isTyped ? (words[0] ?? "") : "unicast",
        to: words[isTyped ? 1 : 0] ?? "",
        dev: after("dev") ?? "",
        source: after("src"),
        mtu: mtu === undefined ? undefined : Number(mtu),
        isLocked,
        isOfKernel: after("proto") === "kernel",
      };
    });
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
