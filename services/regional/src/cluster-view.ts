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
import { MachineIndex } from "./machine-index.ts";

/** A node that has not said anything for so long is not scheduled on, and its machines are doubtful. */
export const nodeFactLimitMs = 15_000;

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
  readonly #nowMs: () => number;
  readonly #machines: MachineIndex;

  /** @param replica already started */
  constructor(replica: Replica, nowMs: () => number) {
    this.#replica = replica;
    this.#nowMs = nowMs;
    this.#machines = new MachineIndex(replica);
    for (const { value } of replica.list(factPrefixes.node)) this.#forget(value as NodeFact);
    replica.watch(factPrefixes.node, ({ value }) => this.#forget(value as NodeFact | undefined));
  }

  get replica(): Replica {
    return this.#replica;
  }

  findApp(name: string): Revised<StoredApp> | undefined {
    return this.#replica.get(factKeys.app(name)) as Revised<StoredApp> | undefined;
  }

  /** @throws HearthError `app_not_found` */
  app(name: string): StoredApp {
    const found = this.findApp(name);
    if (found !== undefined) return found.value;
    throw appNotFound(name);
  }

  apps(): StoredApp[] {
    return this.#replica.list(factPrefixes.app).map(({ value }) => value as StoredApp);
  }

  findMachine(id: string): MachineFact | undefined {
    return this.#machines.find(id);
  }

  /** @throws HearthError `app_not_found`, `machine_not_found`, `invalid_argument` for what is no id */
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
    throw machineNotFound(id);
  }

  machines(app?: string): MachineFact[] {
    return app === undefined ? this.#machines.all() : this.#machines.ofApp(app);
  }

  /** Each change of the machine from now on; undefined when it is gone. A watcher must not throw. */
  watchMachine(id: string, onChange: (fact: MachineFact | undefined) => void): Disposable {
    return this.#machines.watch(id, onChange);
  }

  machineName(app: string, name: string): Revised<MachineNameFact> | undefined {
    return this.#replica.get(factKeys.machineName(app, name)) as Revised<MachineNameFact> | undefined;
  }

  nodes(): NodeFact[] {
    return this.#replica.list(factPrefixes.node).map(({ value }) => value as NodeFact);
  }

  node(id: string): NodeFact | undefined {
    return this.#replica.get(factKeys.node(id))?.value as NodeFact | undefined;
  }

  /** A clock that runs ahead on the other host makes an age negative; that is fresh. */
  nodeAgeMs(node: NodeFact): number {
    return Math.max(0, this.#nowMs() - node.published_at_ms);
  }

  isNodeFresh(node: NodeFact): boolean {
    return this.nodeAgeMs(node) <= nodeFactLimitMs;
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
    const host_status =
      node !== undefined && this.isNodeFresh(node) ? fact.record.host_status : "unreachable";
    return { ...fact.record, host_status };
  }
}

export const appNotFound = (name: string): HearthError =>
  new HearthError("app_not_found", {
    message: `Could not find App "${name}"; create it first.`,
    details: { app: name },
  });

export const machineNotFound = (id: string): HearthError =>
  new HearthError("machine_not_found", {
    message: "machine not found; list the machines of the app.",
    details: { machine_id: id },
  });
