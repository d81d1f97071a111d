/** Cluster state and messages between nodes, over NATS with JetStream. */
export {
  Bus,
  type BusOptions,
  connectBus,
  type Handler,
  type RequestOptions,
  type Serving,
} from "./src/bus.ts";
export {
  hearLoads,
  type LoadEntry,
  type LoadListening,
  type LoadReport,
  mostLoadEntries,
  tellLoads,
} from "./src/bus-loads.ts";
export {
  handOver,
  removeServer,
  type ServerGroup,
  serverConnections,
  serverGroup,
  serverId,
  takesSecret,
} from "./src/bus-servers.ts";
export { BusStream, type BusStreamLimits, maxMessageBytes, windowBytes } from "./src/bus-stream.ts";
export { apiIdentity, apiUser, type BusUser, nodeUser, type Permissions } from "./src/bus-users.ts";
export { ensureSealKey, ensureUserKey, seal, unseal } from "./src/credentials.ts";
export { FactWatch, type FactWatchOptions } from "./src/fact-watch.ts";
export { FactStore, type FactStoreOptions, type PublishOptions, type Written } from "./src/facts.ts";
export {
  maxPayloadBytes,
  type NatsCluster,
  type NatsServerConfig,
  renderNatsConfig,
} from "./src/nats-config.ts";
export { NatsServer, type NatsServerOptions } from "./src/nats-server.ts";
export { type NatsVersion, natsCan, natsServerVersion } from "./src/nats-version.ts";
export { busLogin, defaultLease, type LeaseLimits, NodeConfig, readNodeConfig } from "./src/node-config.ts";
export { type OperatorDoor, type OperatorDoorOptions, openOperatorDoor } from "./src/operator-door.ts";
export { Outbox, type OutboxOptions } from "./src/outbox.ts";
export { Replica } from "./src/replica.ts";
export type { Arrival, ReplicaOptions, StreamLoss, WaitOptions } from "./src/replica-options.ts";
export type { Fact, Restoration, SetAside } from "./src/replica-store.ts";
export { followState, type ServiceState, type ServiceStateOptions } from "./src/service-state.ts";
export {
  keepStateStream,
  restoreState,
  type StateHealth,
  saveState,
  stateHealth,
  takesWrites,
} from "./src/state-keeper.ts";
export { openStream, type StreamHandler, type StreamTarget, serveStreams } from "./src/stream-open.ts";
