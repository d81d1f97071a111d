/**
 * The mesh as this host takes part in it: keys of its own, peers out of the cluster state, and a WireGuard interface
 * a key. Woken by changes of the state and of processes, and by a timer; takes no input; the next turn is the retry.
 *
 * A host that others cannot reach has none of it, and one that is alone has a key, and no interface and no process.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type Bus, FactStore, type Replica, type Serving } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import {
  factKeys,
  factPrefixes,
  type MeshFact,
  type MeshNodeStatus,
  meshEpochOf,
  meshNodeWithout,
  type NodeKeyFact,
} from "@hearth/machine";
import {
  diffMesh,
  formatClusterPrefix,
  hostAddress,
  hostPrefix,
  type MeshExecutor,
  type MeshPeer,
  meshLinkName,
  meshMtu,
  meshPrefix,
  type ObservedLink,
  type OwnEnd,
  parseClusterPrefix,
  planMesh,
  planRotation,
  type RotationStep,
  type Underlay,
} from "@hearth/network";
import type { Logger } from "@hearth/telemetry";
import { addMeshKey, dropMeshKey, readMeshKeys } from "./mesh-keys.ts";
import { MeshLinks } from "./mesh-links.ts";
import { type MeshTurn, quietMs, restMs } from "./mesh-pace.ts";
import { MeshProbe } from "./mesh-probe.ts";
import { describePeer, keyOn, peersOf } from "./mesh-view.ts";
import { MeshWatch } from "./mesh-watch.ts";
import type { NodeIdentity } from "./node-identity.ts";
import type { AgentSettings } from "./settings.ts";

export interface HostMeshDeps {
  readonly settings: Pick<AgentSettings, "dataDir" | "meshPort">;
  readonly identity: NodeIdentity;
  readonly replica: Pick<Replica, "get" | "list" | "watch" | "waitForRevision">;
  /** Rejects when the agent ends before there was a connection. */
  readonly connected: Promise<Bus>;
  readonly executor: MeshExecutor;
  /** Where programs are. */
  readonly path: string;
  readonly logger: Logger;
}

interface Seen {
  readonly underlay: Underlay;
  readonly ends: readonly OwnEnd[];
  readonly links: readonly ObservedLink[];
  readonly peers: readonly MeshPeer[];
  readonly step: RotationStep;
}

const publishLimitMs = 5_000;
/** What was sent by an old key before the last host changed over is still in queues, of this host and of others. */
const drainMs = 2_000;

export class HostMesh {
  readonly #deps: HostMeshDeps;
  readonly #links: MeshLinks;
  readonly #watch = new MeshWatch();
  readonly #probe = new MeshProbe();
  readonly #stopping = new AbortController();
  readonly #cluster: string;
  #wake: () => void = () => undefined;
  #turns: Promise<void> | undefined;
  #serving: Serving | undefined;
  #bus: Bus | undefined;
  #seen: Seen | undefined;
  #admitted: string | undefined;
  #probedMs = Number.NEGATIVE_INFINITY;
  /** Since when nobody has sent by the old keys any more. */
  #unusedSinceMs: number | undefined;
  #problem: string | undefined;

  constructor(deps: HostMeshDeps) {
    this.#deps = deps;
    const { executor, settings, path, logger, identity } = deps;
    const onChange = () => this.#wake();
    this.#links = new MeshLinks({ executor, dataDir: settings.dataDir, path, logger, onChange });
    this.#cluster = formatClusterPrefix(parseClusterPrefix(identity.prefix));
  }

  get #isOn(): boolean {
    return this.#deps.identity.address !== undefined;
  }

  /** Of interfaces that an agent before this one may have left, so that what they carry goes on. */
  interfaces(): string[] {
    if (!this.#isOn) return [];
    const names = readMeshKeys(this.#deps.settings.dataDir).map(({ epoch }) =>
      meshLinkName(this.#deps.identity.node_id, epoch),
    );
    this.#admitted = names.join();
    return names;
  }

  start(): void {
    const { replica, connected } = this.#deps;
    connected.then((bus) => this.#serve(bus)).catch(() => undefined);
    if (!this.#isOn) return;
    for (const prefix of [factPrefixes.nodeKey, factPrefixes.mesh, factPrefixes.meshEpoch])
      replica.watch(prefix, () => this.#wake());
    this.#turns = this.#run();
  }

  /** @param leave as machines that go on running need it */
  async stop({ leave }: { readonly leave: boolean }): Promise<void> {
    this.#stopping.abort();
    this.#wake();
    await this.#turns;
    await this.#serving?.stop();
    this.#probe[Symbol.dispose]();
    if (!this.#isOn) return;
    if (leave) await this.#links.leave();
    else await this.#takeDown();
  }

  /** Sentences about what does not work now. */
  problems(): string[] {
    return this.#problem === undefined ? [] : [`mesh: ${this.#problem}`];
  }

  /** Sentences about hosts that are not reached. */
  warnings(): string[] {
    const silent = this.status().peers.filter(({ state }) => state === "silent" || state === "connecting");
    return [
      ...this.problems(),
      ...silent.map(({ node_id, state }) =>
        state === "silent"
          ? `Node ${node_id} is not heard over the mesh any more.`
          : `Node ${node_id} does not answer over the mesh.`,
      ),
    ];
  }

  status(): MeshNodeStatus {
    const { identity } = this.#deps;
    const { node_id: node } = identity;
    const seen = this.#seen;
    if (!this.#isOn)
      return meshNodeWithout(
        node,
        "off",
        "Other hosts do not reach this one; `hearth up --address` names where they do.",
      );
    if (seen === undefined) return meshNodeWithout(node, "failing", this.#problem ?? "It is starting.");
    const prefix = parseClusterPrefix(identity.prefix);
    const { underlay, ends, links, peers, step } = seen;
    const sends = ends.find(({ epoch }) => epoch === step.uses);
    const { address } = underlay;
    return {
      node_id: node,
      state: this.#problem !== undefined ? "failing" : peers.length === 0 ? "alone" : "up",
      problem: this.#problem ?? null,
      driver: this.#links.driver ?? null,
      address: hostAddress(prefix, identity.host_number),
      prefix: hostPrefix(prefix, identity.host_number),
      endpoint:
        sends === undefined ? null : `${address.includes(":") ? `[${address}]` : address}:${sends.port}`,
      mtu: meshMtu(underlay),
      epoch: step.uses,
      epochs: ends.map(({ epoch }) => epoch),
      waits_for: [...step.waitsFor],
      peers: peers.map((peer) => describePeer({ node, prefix, ends, links, watch: this.#watch }, peer)),
    };
  }

  shortenLogs(): void {
    this.#links.shortenLog();
  }

  #serve(bus: Bus): void {
    if (this.#stopping.signal.aborted) return;
    this.#bus = bus;
    const handlers = { "mesh-status": () => this.status() };
    this.#serving = bus.serve(this.#deps.identity.node_id, "host-agent", handlers);
    this.#wake();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    let last: MeshTurn | "news" = "news";
    let sameTurns = 0;
    while (!signal.aborted) {
      const woken = new Promise<"news">((resolve) => {
        this.#wake = () => resolve("news");
      });
      let turn: MeshTurn = "changing";
      try {
        turn = await this.#turn(signal);
        this.#problem = undefined;
      } catch (thrown) {
        if (!signal.aborted) this.#fail(HearthError.from(thrown));
      }
      sameTurns = turn === last ? sameTurns + 1 : 0;
      const rest = delay(restMs(turn, sameTurns), turn, { signal }).catch(() => turn);
      last = await Promise.race([woken, rest]);
    }
  }

  #fail(error: HearthError): void {
    const program = error.details?.program;
    const text = typeof program === "string" ? `This host lacks ${program}.` : error.message;
    if (text !== this.#problem)
      this.#deps.logger.warn({ err: error }, "the mesh could not be brought to what it is to be");
    this.#problem = text;
  }

  /** Says whether something is on its way that no change of the state will tell of. */
  async #turn(signal: AbortSignal): Promise<MeshTurn> {
    const { executor, identity, replica, settings } = this.#deps;
    const { node_id: node, address = "" } = identity;
    // Without it this host may know too little of its region to tell an old epoch from the present one.
    if (replica.get(factKeys.nodeKey(node)) === undefined) return "changing";
    const underlay = await executor.underlay(address, signal);
    if (underlay === undefined)
      throw new HearthError("unavailable", {
        message: `No interface of this host has the address ${address}.`,
      });
    const peers = this.#peers();
    const { links, routes, isClosed } = await executor.observe({ node, cluster: this.#cluster }, signal);
    this.#watch.note(links);
    const isFresh = (peer: MeshPeer, epoch: number): boolean =>
      this.#watch.isFresh(meshLinkName(node, epoch), keyOn(peer, epoch));
    const had = readMeshKeys(settings.dataDir);
    const wanted = meshEpochOf(replica.get(factKeys.meshEpoch())?.value);
    const step = this.#drained(planRotation({ ends: had, peers, isFresh, wanted }));
    const added = step.add === undefined ? [] : [this.#addKey(had, step.add)];
    const ends = [...had, ...added].filter(({ epoch }) => !step.retire.includes(epoch));
    this.#seen = { underlay, ends, links, peers, step };
    if (peers.length === 0) await this.#takeDown();
    else {
      const prefix = parseClusterPrefix(identity.prefix);
      const plan = planMesh({ node, prefix, host: identity.host_number, underlay, ends, peers, isFresh });
      const changes = diffMesh(plan, { links, routes, isClosed }, Date.now() / 1000);
      await this.#admit(
        plan.links.map(({ name }) => name),
        signal,
      );
      this.#links.adopt(links.map(({ name }) => name));
      for (const name of changes.missingLinks) await this.#links.make(name, signal);
      await executor.apply(changes, signal);
      for (const name of changes.strayLinks) await this.#links.remove(name, signal);
      this.#say(changes, step);
      const failed = changes.missingLinks.map((name) => this.#links.problem(name)).find(Boolean);
      if (failed !== undefined) throw new HearthError("unavailable", { message: failed });
      if (changes.missingLinks.length > 0) return "changing";
    }
    for (const end of had) if (step.retire.includes(end.epoch)) dropMeshKey(end);
    await this.#publish(this.#fact(underlay, ends, step));
    this.#probePeers(peers);
    if (ends.length > 1) return "changing";
    return this.status().peers.some(({ state }) => state === "connecting") ? "connecting" : "quiet";
  }

  #drained(step: RotationStep): RotationStep {
    const nowMs = performance.now();
    if (step.retire.length === 0) this.#unusedSinceMs = undefined;
    else this.#unusedSinceMs ??= nowMs;
    return nowMs - (this.#unusedSinceMs ?? nowMs) < drainMs ? { ...step, retire: [] } : step;
  }

  #say({ missingLinks, strayLinks, wireguard, ip }: ReturnType<typeof diffMesh>, step: RotationStep): void {
    if (missingLinks.length + strayLinks.length + wireguard.length + ip.length === 0) return;
    const { uses, retire } = step;
    this.#deps.logger.info(
      { made: missingLinks, removed: strayLinks, peers: wireguard.length, routes: ip, uses, retire },
      "the mesh was changed",
    );
  }

  #peers(): MeshPeer[] {
    const { replica, identity } = this.#deps;
    const keys = replica.list(factPrefixes.nodeKey).map(({ value }) => value as NodeKeyFact);
    return peersOf(identity.node_id, keys, replica.list(factPrefixes.mesh));
  }

  #addKey(had: readonly OwnEnd[], epoch: number): OwnEnd {
    const { dataDir, meshPort } = this.#deps.settings;
    // Two, in turn: during a rotation each of two interfaces listens on one.
    const port = had.some((end) => end.port === meshPort) ? meshPort + 1 : meshPort;
    return addMeshKey(dataDir, { epoch, port });
  }

  async #admit(names: readonly string[], signal: AbortSignal): Promise<void> {
    if (this.#admitted === names.join()) return;
    const { executor, identity } = this.#deps;
    await executor.admit({ node: identity.node_id, meshInterfaces: names }, signal);
    this.#admitted = names.join();
  }

  #fact(underlay: Underlay, ends: readonly OwnEnd[], { uses }: RotationStep): MeshFact {
    const { identity } = this.#deps;
    const prefix = parseClusterPrefix(identity.prefix);
    return {
      node_id: identity.node_id,
      prefix: hostPrefix(prefix, identity.host_number),
      address: hostAddress(prefix, identity.host_number),
      underlay: underlay.address,
      mtu: meshMtu(underlay),
      ends: ends.map(({ epoch, publicKey, port }) => ({ epoch, public_key: publicKey, port })),
      uses,
    };
  }

  /** What the stream lost is said again too, as the replica has it then no more as it is. */
  async #publish(fact: MeshFact): Promise<void> {
    const { replica } = this.#deps;
    const key = factKeys.mesh(fact.node_id);
    const known = replica.get(key);
    if (this.#bus === undefined) return;
    if (known !== undefined && known.revision > 0 && JSON.stringify(known.value) === JSON.stringify(fact))
      return;
    const revision = await new FactStore({ bus: this.#bus }).publish(key, fact);
    await replica.waitForRevision(key, revision, { timeoutMs: publishLimitMs });
  }

  #probePeers(peers: readonly MeshPeer[]): void {
    const nowMs = performance.now();
    if (nowMs - this.#probedMs < quietMs) return;
    this.#probedMs = nowMs;
    const prefix = parseClusterPrefix(this.#deps.identity.prefix);
    this.#probe.send(
      peers.filter(({ ends }) => ends.length > 0).map(({ host }) => hostAddress(prefix, host)),
    );
  }

  async #takeDown(): Promise<void> {
    const { executor, identity } = this.#deps;
    const { node_id: node } = identity;
    const { links, isClosed } = await executor.observe({ node, cluster: this.#cluster });
    const names = links.map(({ name }) => name);
    await this.#links.removeAll(meshPrefix(node), names);
    if (isClosed) await executor.open(this.#cluster);
  }
}
