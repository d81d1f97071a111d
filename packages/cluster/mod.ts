/** Cluster state and messages between nodes, over NATS with JetStream. */
export {
  Bus,
  type BusOptions,
  connectBus,
  type Handler,
  type RequestOptions,
  type Serving,
} from "./src/bus.ts";
export { BusStream, type BusStreamLimits, maxMessageBytes, windowBytes } from "./src/bus-stream.ts";
export { FactStore, type FactStoreOptions, type PublishOptions, type Written } from "./src/facts.ts";
export {
  maxPayloadBytes,
  NatsServer,
  type NatsServerConfig,
  type NatsServerOptions,
  renderNatsConfig,
} from "./src/nats-server.ts";
export { defaultLease, type LeaseLimits, NodeConfig, readNodeConfig } from "./src/node-config.ts";
export { Outbox, type OutboxOptions } from "./src/outbox.ts";
export { Replica, type ReplicaOptions, type StreamLoss, type WaitOptions } from "./src/replica.ts";
export type { Fact, Restoration, SetAside } from "./src/replica-store.ts";
export { openStream, type StreamHandler, type StreamTarget, serveStreams } from "./src/stream-open.ts";
