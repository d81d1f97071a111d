/**
 * The private names of a node: an index of what the replica holds, and the doors at which it is asked. It answers from
 * the replica's disk before the bus is there, and goes on when the bus goes.
 */
import type { Fact, Replica } from "@hearth/cluster";
import { factKeys, factPrefixes, type NodeFact } from "@hearth/machine";
import { MetricsServer } from "@hearth/telemetry";
import type { DatagramWay } from "./datagrams/datagrams.ts";
import { EgressGuests } from "./egress-guests.ts";
import { Forwarder } from "./forwarder.ts";
import { Metrics, renderMetrics } from "./metrics.ts";
import { NameGate, type NameGateDeps } from "./name-gate.ts";
import { NameIndex, nameFactPrefixes } from "./name-index.ts";
import { Resolver } from "./resolver.ts";
import type { SourceLimits } from "./source-limits.ts";
import { SourceTable } from "./source-table.ts";
import { TcpServer } from "./tcp-server.ts";
import { UdpServer } from "./udp-server.ts";
import type { Upstream } from "./upstream-query.ts";

export interface DnsServiceDeps {
  /** Already started. */
  readonly replica: Pick<Replica, "scan" | "watch" | "forget" | "ageMs" | "revision">;
  readonly nodeId: string;
  readonly region: string;
  readonly prefix: bigint;
  readonly hostNumber: number;
  /** The address of the resolver, which this host has by now. */
  readonly address: string;
  readonly port: number;
  readonly upstreams: readonly Upstream[];
  readonly socketPath: string;
  readonly datagrams: Pick<DatagramWay, "way" | "open">;
  readonly guestLimits?: SourceLimits;
  /** Opens to guests what they are told of names that they are allowed. */
  readonly network: NameGateDeps["network"];
  readonly logger: NameGateDeps["logger"];
}

export class DnsService {
  readonly #deps: DnsServiceDeps;
  readonly #metrics = new Metrics();
  readonly #forwarder: Forwarder;
  readonly #udp: UdpServer;
  readonly #tcp: TcpServer;
  readonly #metricsServer: MetricsServer;
  readonly #gate: NameGate;
  readonly #watches: Disposable[] = [];

  constructor(deps: DnsServiceDeps) {
    const { nodeId, region, address, replica } = deps;
    this.#deps = deps;
    const metrics = this.#metrics;
    const index = new NameIndex(nodeId);
    this.#forwarder = new Forwarder({ upstreams: deps.upstreams, metrics });
    const place = { nodeId, region, resolverAddress: address };
    const guests = new EgressGuests(nodeId);
    const { network, logger } = deps;
    this.#gate = new NameGate({ nodeId, guests, network, metrics, logger });
    const gate = this.#gate;
    const resolver = new Resolver({ index, forwarder: this.#forwarder, metrics, gate, place });
    const sources = new SourceTable({ ...deps, index });
    const server = { resolver, sources, metrics };
    this.#udp = new UdpServer(server, deps.datagrams.open);
    this.#tcp = new TcpServer(server);
    this.#metricsServer = new MetricsServer({
      metrics: () => renderMetrics(metrics, this.#gauges()),
      health: () => ({
        ...this.#gauges(),
        ...{ upstreams: deps.upstreams.length, datagrams: deps.datagrams.way },
      }),
    });
    // A node that has said again all that is so has said of what it left out that it is gone.
    const forget = ({ value }: { readonly value?: unknown }): void => {
      const node = value as NodeFact | undefined;
      if (node?.restated !== undefined) replica.forget(factKeys.machine(node.node_id, ""), node.restated);
    };
    for (const fact of replica.scan(factPrefixes.node)) forget(fact);
    this.#watches.push(replica.watch(factPrefixes.node, forget));
    for (const prefix of nameFactPrefixes) {
      const take = (fact: Fact): void => {
        index.take(fact);
        guests.take(fact);
      };
      for (const fact of replica.scan(prefix)) take(fact);
      this.#watches.push(replica.watch(prefix, take));
    }
  }

  /** Resolves with the port. */
  async start(): Promise<number> {
    const { address, port, socketPath } = this.#deps;
    await this.#gate.start();
    const bound = await this.#udp.start(address, port);
    await this.#tcp.start(address, bound);
    await this.#metricsServer.start(socketPath);
    return bound;
  }

  async stop(): Promise<void> {
    for (const watch of this.#watches) watch[Symbol.dispose]();
    await Promise.all([this.#udp.stop(), this.#tcp.stop(), this.#metricsServer.stop(), this.#gate.stop()]);
  }

  #gauges(): Record<string, number> {
    const { replica, datagrams } = this.#deps;
    return {
      datagrams_in_batches: datagrams.way === "batches" ? 1 : 0,
      replica_age_seconds: Number.isFinite(replica.ageMs) ? replica.ageMs / 1_000 : -1,
      replica_revision: replica.revision,
      forwards_in_flight: this.#forwarder.inFlight,
      forward_cache_bytes: this.#forwarder.cacheBytes,
      tcp_connections: this.#tcp.connections,
    };
  }
}
