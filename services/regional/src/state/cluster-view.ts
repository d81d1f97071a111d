/** Cluster state as the API reads it: typed look-ups in the replica, which never wait for the network. */
import type { Replica } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import {
  type AppFact,
  factKeys,
  factPrefixes,
  isMachineId,
  type MachineFact,
  type MachineNameFact,
  type MachineRecord,
  type NodeFact,
} from "@hearth/machine";
import { NodeIndex, type NodeIndexClocks, nodeFactLimitMs } from "../placement/node-index.ts";
import { PendingMachines } from "../placement/pending-machines.ts";
import { MachineIndex, type MachineSummary } from "./machine-index.ts";
import { RegionState } from "./region-state.ts";

/** Of more, people should know: logs of two hosts no longer tell one story, and leases of machines end early or late. */
const skewWarningMs = 5_000;

/**
 * A copy that was last known to be the newest longer ago than this does not know what does not exist. It looks each
 * second, and a bus that has lost its leader has another, which may take writes, after 4 s at the earliest.
 */
const currentLimitMs = 3_500;

/** An app with what only the API needs to know of it. */
export interface StoredApp extends AppFact {
  /** Apps of one organisation with one name of network share its number. */
  readonly network_name: string;
}

export interface Revised<T> {
  readonly value: T;
  readonly revision: number;
}

export class ClusterView {
  readonly #replica: Replica;
  readonly machineIndex: MachineIndex;
  readonly nodeIndex: NodeIndex;
  readonly region: RegionState;
  readonly pending: PendingMachines;

  /** @param replica already started */
  constructor(replica: Replica, clocks: NodeIndexClocks) {
    this.#replica = replica;
    this.region = new RegionState({ replica, monotonicMs: clocks.monotonicMs });
    this.machineIndex = new MachineIndex(replica);
    this.nodeIndex = new NodeIndex(replica, clocks);
    const isKnown = (id: string): boolean => this.machineIndex.has(id);
    this.pending = new PendingMachines({ ...clocks, replica, isKnown });
    for (const { value } of replica.list(factPrefixes.node)) this.#forget(value as NodeFact);
    replica.watch(factPrefixes.node, ({ value }) => this.#forget(value as NodeFact | undefined));
  }

  get replica(): Replica {
    return this.#replica;
  }

  findApp(name: string): Revised<StoredApp> | undefined {
    return this.#replica.get(factKeys.app(name)) as Revised<StoredApp> | undefined;
  }

  /** @throws HearthError what `missingApp` says */
  app(name: string): StoredApp {
    const found = this.findApp(name);
    if (found !== undefined) return found.value;
    throw this.missingApp(name);
  }

  apps(): StoredApp[] {
    return this.#replica.list(factPrefixes.app).map(({ value }) => value as StoredApp);
  }

  findMachine(id: string): MachineFact | undefined {
    return this.machineIndex.find(id);
  }

  /** Why there is no such app for the caller, as `missing` says it of a machine: `app_not_found` or `unavailable`. */
  missingApp(name: string): HearthError {
    return this.#isCurrent ? appNotFound(name) : notHeard("app", { app: name });
  }

  /**
   * Why there is no such machine for the caller. Only a copy that is known to be the newest may say that it does not
   * exist; one that lags, or has just begun to listen, says that it does not know. It looks at nothing that the caller
   * may not see, so that the answer does not tell whether the machine exists elsewhere.
   */
  missing(id: string): HearthError {
    return this.#isCurrent ? machineNotFound(id) : notHeard("machine", { machine_id: id });
  }

  get #isCurrent(): boolean {
    return this.#replica.isSettled && this.#replica.ageMs <= currentLimitMs;
  }

  /** @throws HearthError `app_not_found`, `machine_not_found`, `unavailable`, `invalid_argument` for what is no id */
  machine(app: string, id: string): MachineFact {
    this.app(app);
    if (!isMachineId(id)) {
      throw new HearthError("invalid_argument", {
        message: `invalid machine ID "${id}": it is 14 lower-case hex digits; list the machines of the app.`,
        details: { field: "id" },
      });
    }
    const found = this.findMachine(id);
    if (found?.app === app) return found;
    if (this.pending.mayAppear(app, id))
      throw new HearthError("unavailable", {
        message:
          "The machine was asked for and its node has not been heard of it yet; try again in a moment.",
        details: { machine_id: id },
      });
    throw this.missing(id);
  }

  /** What every node says of the machine, also one that has lost it. */
  claims(id: string): readonly MachineFact[] {
    return this.machineIndex.claims(id);
  }

  machines(app?: string): MachineFact[] {
    if (app !== undefined) return this.machineIndex.ofApp(app);
    return this.machineIndex.summaries().flatMap(({ id }) => this.findMachine(id) ?? []);
  }

  /** What lists choose by, by id; a whole record is read from the disk. */
  machineSummaries(app?: string): MachineSummary[] {
    return this.machineIndex.summaries(app);
  }

  /** How many machines of the app each node has, without those that are destroyed. */
  machinesPerNode(app: string): ReadonlyMap<string, number> {
    return this.machineIndex.perNode(app);
  }

  /** Each change of the machine from now on; undefined when it is gone. A watcher must not throw. */
  watchMachine(id: string, onChange: (fact: MachineFact | undefined) => void): Disposable {
    return this.machineIndex.watch(id, onChange);
  }

  machineName(app: string, name: string): Revised<MachineNameFact> | undefined {
    return this.#replica.get(factKeys.machineName(app, name)) as Revised<MachineNameFact> | undefined;
  }

  nodes(): NodeFact[] {
    return this.#replica
      .list(factPrefixes.node)
      .map(({ value }) => value as NodeFact)
      .filter(({ node_id }) => !this.region.isRemoved(node_id));
  }

  node(id: string): NodeFact | undefined {
    if (this.region.isRemoved(id)) return undefined;
    return this.#replica.get(factKeys.node(id))?.value as NodeFact | undefined;
  }

  /** Since this process heard it, on a monotonic clock; infinite when it never did. */
  nodeAgeMs(node: Pick<NodeFact, "node_id">): number {
    return this.nodeIndex.ageMs(node.node_id);
  }

  /** What an operator should know of a node's clock. */
  clockWarning({ node_id }: NodeFact): string | undefined {
    const skewMs = this.nodeIndex.clockSkewMs(node_id);
    if (Math.abs(skewMs) <= skewWarningMs) return undefined;
    const seconds = Math.round(Math.abs(skewMs) / 1000);
    return `Its clock is ${seconds} s ${skewMs > 0 ? "ahead of" : "behind"} that of this API process; set both by NTP.`;
  }

  isNodeFresh(node: Pick<NodeFact, "node_id">): boolean {
    const state = this.region.lease(node.node_id)?.value.state;
    return this.nodeAgeMs(node) <= nodeFactLimitMs && state !== "fenced" && state !== "removed";
  }

  /** What the node itself last said of its machines, also of those that are elsewhere by now. */
  machinesOn(nodeId: string): MachineFact[] {
    const facts = this.#replica.list(`${factPrefixes.machine}${nodeId}.`);
    return facts.map(({ value }) => value as MachineFact).filter(({ node_id }) => node_id === nodeId);
  }

  machineOn(nodeId: string, machineId: string): MachineFact | undefined {
    const fact = this.#replica.get(factKeys.machine(nodeId, machineId))?.value as MachineFact | undefined;
    return fact?.node_id === nodeId ? fact : undefined;
  }

  freshNodes(): NodeFact[] {
    return this.nodes().filter((node) => this.isNodeFresh(node));
  }

  /** A node that has said again all that is so has said of what it left out that it is gone. */
  #forget(node: NodeFact | undefined): void {
    if (node?.restated !== undefined) this.#replica.forget(factKeys.machine(node.node_id, ""), node.restated);
  }

  /** The record as a client reads it: what its node last said, and whether the node can still be heard. */
  recordOf(fact: MachineFact): MachineRecord {
    const node = this.node(fact.node_id);
    if (node !== undefined && this.isNodeFresh(node)) return fact.record;
    // A process that has just begun to listen cannot tell a silent node from one whose next word is to come.
    return { ...fact.record, host_status: this.nodeIndex.isListeningLong ? "unreachable" : "unknown" };
  }
}

const notHeard = (what: "app" | "machine", details: Readonly<Record<string, string>>): HearthError =>
  new HearthError("unavailable", {
    message: `This API does not know the ${what}, and has not heard the newest state of the region; try again in a moment, or ask another API.`,
    details,
  });

const appNotFound = (name: string): HearthError =>
  new HearthError("app_not_found", {
    message: `Could not find App "${name}"; create it first.`,
    details: { app: name },
  });

export const machineNotFound = (id: string): HearthError =>
  new HearthError("machine_not_found", {
    message: "machine not found; list the machines of the app.",
    details: { machine_id: id },
  });
