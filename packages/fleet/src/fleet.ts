/**
 * Several hosts on one machine, with real services and real machines in them, for tests, drills and people.
 *
 * Everything of a fleet is below one directory and in namespaces that die with the process that made it: disposing
 * takes it away, and so does the death of that process. It touches nothing of this machine but one interface of its own name,
 * by which the hosts' APIs are reached from here.
 */
import { existsSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "@hearth/errors";
import type { Faults } from "./fault-rules.ts";
import { claimFleet, type FleetClaim } from "./fleet-claim.ts";
import { FleetHost } from "./fleet-host.ts";
import { run } from "./run-command.ts";
import { Underlay } from "./underlay.ts";

const maxHosts = 32;
const goneLimitMs = 60_000;

export class Fleet implements AsyncDisposable {
  /** Such as `hf07`. */
  readonly name: string;
  readonly directory: string;
  readonly hosts: readonly FleetHost[];
  readonly #underlay: Underlay;

  private constructor(underlay: Underlay, hosts: readonly FleetHost[]) {
    this.name = underlay.claim.name;
    this.directory = underlay.claim.directory;
    this.hosts = hosts;
    this.#underlay = underlay;
  }

  /**
   * Hosts that are on and joined by the underlay, with nothing of Hearth on them.
   * @throws HearthError `host_requirement_missing` without root
   */
  static async powerOn(count: number): Promise<Fleet> {
    if (process.getuid?.() !== 0)
      throw new HearthError("host_requirement_missing", {
        message: "A fleet makes network namespaces and interfaces, which needs root; use sudo.",
      });
    if (!Number.isInteger(count) || count < 1 || count > maxHosts)
      throw new HearthError("invalid_argument", { message: `A fleet has 1 to ${maxHosts} hosts.` });
    const underlay = await Underlay.start(await claimFleet());
    const hosts = Array.from({ length: count }, (_, index) => new FleetHost(underlay, index + 1));
    const fleet = new Fleet(underlay, hosts);
    try {
      for (const host of hosts) await host.boot();
      return fleet;
    } catch (error) {
      await fleet[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** @throws HearthError `not_found` */
  host(number: number): FleetHost {
    const found = this.hosts[number - 1];
    if (found !== undefined) return found;
    throw new HearthError("not_found", { message: `The fleet has hosts 1 to ${this.hosts.length}.` });
  }

  /** Nothing goes from one to the other, in one direction only. */
  async cut(from: FleetHost, to: FleetHost): Promise<void> {
    await this.#addFaults({ cuts: [{ from, to }] });
  }

  /** Nothing goes from any host of one side to any of the other, nor back. */
  async partition(one: readonly FleetHost[], other: readonly FleetHost[]): Promise<void> {
    const cuts = one.flatMap((host) =>
      other.flatMap((peer) => [
        { from: host, to: peer },
        { from: peer, to: host },
      ]),
    );
    await this.#addFaults({ cuts });
  }

  /** Cuts a host off from all others; this machine still reaches it. */
  async isolate(host: FleetHost): Promise<void> {
    await this.partition(
      [host],
      this.hosts.filter((other) => other !== host),
    );
  }

  /** Of the packets from one to the other, this share is lost at random. */
  async loss(from: FleetHost, to: FleetHost, percent: number): Promise<void> {
    await this.#addFaults({ losses: [{ from, to, percent }] });
  }

  /** Datagrams of more than so many bytes of IP vanish between the two, both ways, and no message says so. */
  async narrow(one: FleetHost, other: FleetHost, bytes: number): Promise<void> {
    const ways = [
      { from: one, to: other, bytes },
      { from: other, to: one, bytes },
    ];
    await this.#addFaults({ narrows: ways });
  }

  /** Each packet to the host and from it waits up to this long, half of it on average. */
  async latency(host: FleetHost, upToMs: number): Promise<void> {
    await this.#underlay.slowDown(host.port, upToMs);
  }

  /** Packets lost to the faults that there are now; a drill sees by it that a fault was felt. */
  async dropped(): Promise<number> {
    return await this.#underlay.dropped();
  }

  /** Takes all faults of the network back. */
  async heal(): Promise<void> {
    await this.#underlay.mend();
  }

  /** All of it is gone when this resolves. @throws HearthError `internal` naming what is not */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.hosts.map((host) => host[Symbol.asyncDispose]()));
    await this.#underlay[Symbol.asyncDispose]();
    const endMs = Date.now() + goneLimitMs;
    for (;;) {
      const left = await leftovers(this.#underlay.claim);
      if (left.length === 0) return;
      if (Date.now() > endMs)
        throw new HearthError("internal", { message: `The fleet left ${left.join(", ")} behind.` });
      await delay(20);
    }
  }

  async #addFaults({ cuts = [], losses = [], narrows = [] }: Partial<Faults>): Promise<void> {
    const { faults } = this.#underlay;
    await this.#underlay.setFaults({
      cuts: [...faults.cuts, ...cuts],
      losses: [...faults.losses, ...losses],
      narrows: [...faults.narrows, ...narrows],
    });
  }
}

/** What a fleet still has on this machine. Its processes and namespaces hold the lock in its directory. */
async function leftovers({ name, directory }: FleetClaim): Promise<string[]> {
  const { code } = await run(["ip", "link", "show", "dev", name]);
  return [...(code === 0 ? [`the interface ${name}`] : []), ...(existsSync(directory) ? [directory] : [])];
}
