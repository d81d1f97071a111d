/**
 * What a service of a node knows of the cluster: a connection that it goes on trying for, and a copy of the state that
 * it reads meanwhile, from its disk when the bus is down at its start.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Logger } from "@hearth/telemetry";
import { type Bus, connectBus } from "./bus.ts";
import { busLogin, type NodeConfig } from "./node-config.ts";
import { Replica } from "./replica.ts";
import type { ReplicaOptions } from "./replica-options.ts";

export interface ServiceStateOptions extends Pick<ReplicaOptions, "onDisk" | "restores" | "onStreamLoss"> {
  readonly node: Pick<NodeConfig, "node_id" | "nats">;
  /** Of the service, in the monitoring of the bus. */
  readonly name: string;
  readonly as?: "node" | "api";
  /** The service's own. Made with mode 0700. */
  readonly directory: string;
  /** Ends the trying. */
  readonly stopping: AbortSignal;
  readonly logger: Logger;
}

export interface ServiceState {
  readonly replica: Replica;
  /** Rejects when the service is stopped before there was a connection. */
  readonly connecting: Promise<Bus>;
  /** The connection, while there is one. */
  bus(): Bus | undefined;
  /** Ends both. */
  stop(): Promise<void>;
}

export function followState(options: ServiceStateOptions): ServiceState {
  const { node, name, as, directory, stopping, logger, onDisk, restores, onStreamLoss } = options;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const connecting = connectBus({
    ...busLogin(node, as),
    name,
    retryUntil: stopping,
    onRefused: (error) => logger.error({ err: error }, "refused by the bus"),
  });
  let connected: Bus | undefined;
  connecting.then(
    (open) => {
      connected = open;
    },
    (error: unknown) => {
      if (!stopping.aborted) logger.error({ err: error }, "the bus cannot be reached");
    },
  );
  const replica = new Replica({
    bus: connecting,
    path: join(directory, "replica.sqlite"),
    onError: (error) => logger.warn({ err: error }, "the feed of the cluster state broke; it starts again"),
    onSetAside: ({ path, reason }) =>
      logger.error(
        { path, reason },
        "the replica's file cannot be read; it is set aside, and a new one is made",
      ),
    ...(onDisk === undefined ? {} : { onDisk }),
    ...(restores === undefined ? {} : { restores }),
    ...(onStreamLoss === undefined ? {} : { onStreamLoss }),
  });
  replica.start();
  return {
    replica,
    connecting,
    bus: () => (connected?.isConnected === true ? connected : undefined),
    async stop() {
      await replica.stop();
      await connected?.close();
    },
  };
}
