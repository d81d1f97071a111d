/** The API process of one node: the host agent starts and ends it. */
import { randomBytes } from "node:crypto";
import { defaultLease, FactStore, followState } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { isOwnWord, perMachinePrefixes } from "@hearth/machine";
import { releaseStartupMemory, stopSignal, untilAborted } from "@hearth/process";
import { createLogger } from "@hearth/telemetry";
import { readRegionalConfig } from "./config.ts";
import { RegionalApi } from "./regional-api.ts";
import { readSigningKey } from "./tokens/signing-key.ts";

const stopLimitMs = 4_000;

const { node, tokenHash, directory } = readRegionalConfig(process.env);
const logger = createLogger("regional", { node_id: node.node_id });
const stopping = stopSignal();

// Reads are served from the disk while the bus is down.
const state = followState({
  ...{ node, name: "regional", as: "api", directory, onDisk: perMachinePrefixes, stopping, logger },
  restores: (key) => !isOwnWord(key),
  onStreamLoss: (loss) =>
    logger.error(loss, "the stream had lost facts; this process put back from its copy what the API owns"),
});
let facts: FactStore | undefined;
const connection = () => {
  const bus = state.bus();
  if (bus === undefined)
    throw new HearthError("unavailable", { message: "The bus does not answer; try again in a moment." });
  facts ??= new FactStore({ bus });
  return { bus, facts };
};

const api = new RegionalApi({
  bus: () => connection().bus,
  facts: () => connection().facts,
  replica: state.replica,
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
  certificateSettings: {
    sealSeedPath: node.certificates?.seal_seed_path,
    domain: node.ingress?.domain,
    acme: node.certificates?.acme,
    resolvers: node.dns?.upstreams,
  },
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
await state.stop();
logger.info("stopped");
process.exit(0);
