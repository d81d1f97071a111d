/** The network between the hosts of a fleet and this machine: a switch, a cable to each host, and faults on them. */
import { join } from "node:path";
import { addDelayLink, removeDelayLink, slowBridge } from "./delay-link.ts";
import { type Faults, faultTable, noFaults, type Port, renderFaults } from "./fault-rules.ts";
import type { FleetClaim } from "./fleet-claim.ts";
import { NamespaceSet } from "./namespace-set.ts";
import { must, run } from "./run-command.ts";

export class Underlay implements AsyncDisposable {
  readonly claim: FleetClaim;
  readonly #switch: NamespaceSet;
  readonly #slow = new Set<string>();
  #faults: Faults = noFaults;

  private constructor(claim: FleetClaim, ownSwitch: NamespaceSet) {
    this.claim = claim;
    this.#switch = ownSwitch;
  }

  static async start(claim: FleetClaim): Promise<Underlay> {
    const ownSwitch = await NamespaceSet.start({
      script: join(import.meta.dirname, "switch-init.sh"),
      args: [claim.directory, claim.hostsLockFile],
      lockFile: claim.lockFile,
    });
    const underlay = new Underlay(claim, ownSwitch);
    try {
      const { name, network } = claim;
      const cable = [
        "ip",
        "link",
        "add",
        name,
        "type",
        "veth",
        "peer",
        "outside",
        "netns",
        `${ownSwitch.pid}`,
      ];
      await must(cable);
      await must(["ip", "addr", "add", `${network.outside}/24`, "dev", name]);
      await must(["ip", "link", "set", "dev", name, "up"]);
      await underlay.#connect("outside");
      await underlay.setFaults(noFaults);
      return underlay;
    } catch (error) {
      await underlay[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The address of the host with this number, 1 to 253. */
  addressOf(number: number): string {
    return `${this.claim.network.prefix}${number}`;
  }

  /** A cable from a port of the switch to the host, which has it as `eth0`. It is gone when the host is. */
  async plug({ port, mac }: Port, address: string, host: NamespaceSet): Promise<void> {
    // Of a host that was lost a moment ago the kernel may not have taken the cable away yet.
    await run(this.#switch.inNetwork(["ip", "link", "del", "dev", port]));
    const ends = ["name", port, "netns", `${this.#switch.pid}`, "type", "veth"];
    await must(["ip", "link", "add", ...ends, "peer", "eth0", "address", mac, "netns", `${host.pid}`]);
    await must(host.inNetwork(["ip", "addr", "add", `${address}/24`, "dev", "eth0"]));
    await must(host.inNetwork(["ip", "link", "set", "dev", "eth0", "up"]));
    await this.#connect(port);
  }

  /** What the cables do wrong from now on, instead of what they did. */
  async setFaults(faults: Faults): Promise<void> {
    await must(this.#switch.inNetwork(["nft", "-f", "-"]), { input: renderFaults(faults) });
    this.#faults = faults;
  }

  /** Packets that the present faults have dropped. */
  async dropped(): Promise<number> {
    const listed = await must(this.#switch.inNetwork(["nft", "list", "table", ...faultTable.split(" ")]));
    const counts = [...listed.matchAll(/counter packets (\d+)/g)].map(([, count]) => Number(count));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  get faults(): Faults {
    return this.#faults;
  }

  /** Each packet to the port and from it waits up to this long. */
  async slowDown(port: string, upToMs: number): Promise<void> {
    await this.hasten(port);
    this.#slow.add(port);
    await addDelayLink(this.#switch, { directory: this.claim.directory, port, upToMs });
  }

  async hasten(port: string): Promise<void> {
    if (!this.#slow.delete(port)) return;
    await removeDelayLink(this.#switch, this.claim.directory, port);
  }

  /** The cables do nothing wrong any more. */
  async mend(): Promise<void> {
    await this.setFaults(noFaults);
    for (const port of [...this.#slow]) await this.hasten(port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#switch[Symbol.asyncDispose]();
  }

  async #connect(port: string): Promise<void> {
    const bridge = this.#slow.has(port) ? slowBridge(port) : "underlay";
    await must(this.#switch.inNetwork(["ip", "link", "set", "dev", port, "master", bridge, "up"]));
  }
}
