/** The API process of one node: the host agent starts and ends it. */
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Bus, busLogin, connectBus, defaultLease, FactStore, Replica } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { releaseStartupMemory, stopSignal, untilAborted } from "@hearth/process";
import { createLogger } from "@hearth/telemetry";
import { readRegionalConfig } from "./config.ts";
import { RegionalApi, regionalOnDisk } from "./regional-api.ts";
import { readSigningKey } from "./signing-key.ts";

const stopLimitMs = 4_000;
/** Facts that only the API writes, so it is the API that puts them back. */
const ownPrefixes = [
  ...["app.", "machine-name.", "network.", "idempotency."],
  ...["lease.", "node-policy.", "placement."],
  ...["token.", "signing-key.", "admin-token."],
  ...["node-key.", "host-number.", "join.", "bus.", "ssh."],
];

const { node, tokenHash, directory } = readRegionalConfig(process.env);
const logger = createLogger("regional", { node_id: node.node_id });
const stopping = stopSignal();

let connected: { readonly bus: Bus; readonly facts: FactStore } | undefined;
const connection = () => {
  if (connected?.bus.isConnected === true) return connected;
  throw new HearthError("unavailable", { message: "The bus does not answer; try again in a moment." });
};

mkdirSync(directory, { recursive: true });
// Reads are served from the disk while the bus is down.
const bus = connectBus({
  ...busLogin(node, "api"),
  name: "regional",
  retryUntil: stopping,
  onRefused: (error) => logger.error({ err: error }, "refused by the bus"),
});
bus.then(
  (open) => {
    connected = { bus: open, facts: new FactStore({ bus: open }) };
  },
  (error: unknown) => {
    if (!stopping.aborted) logger.error({ err: error }, "the bus cannot be reached");
  },
);
const replica = new Replica({
  bus,
  path: join(directory, "replica.sqlite"),
  onDisk: regionalOnDisk,
  onError: (error) => logger.warn({ err: error }, "the feed of the cluster state broke; it starts again"),
  restores: (key) => ownPrefixes.some((prefix) => key.startsWith(prefix)),
  onStreamLoss: (loss) =>
    logger.error(loss, "the stream had lost facts; this process put back from its copy what the API owns"),
  onSetAside: ({ path, reason }) =>
    logger.error(
      { path, reason },
      "the replica's file cannot be read; it is set aside, and a new one is made",
    ),
});
replica.start();

const api = new RegionalApi({
  bus: () => connection().bus,
  facts: () => connection().facts,
  replica,
  nodeId: node.node_id,
  tokenHash,
  region: { name: node.region, prefix: node.prefix },
  signingKey: await readSigningKey(directory),
  ...(node.ssh === undefined
    ? {}
    : {
        sshSettings: {
          port: node.ssh.port,
          secretPath: node.ssh.secret_path,
          sealSeedPath: node.ssh.seal_seed_path,
        },
      }),
  nowMs: Date.now,
  randomBytes,
  logger,
  keeperLimits: { marginMs: (node.lease ?? defaultLease).margin_ms },
});
logger.info({ url: await api.start(node.api) }, "serving");
releaseStartupMemory();

await untilAborted(stopping);
setTimeout(() => process.exit(0), stopLimitMs).unref();
await api.stop();
await replica.stop();
await connected?.bus.close();
logger.info("stopped");
process.exit(0);
