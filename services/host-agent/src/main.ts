/** The host agent as a process. SIGINT is `hearth down`; SIGTERM ends the services and leaves machines running. */
import { HearthError } from "@hearth/errors";
import { releaseStartupMemory } from "@hearth/process";
import { createLogger } from "@hearth/telemetry";
import { HostAgent } from "./host-agent.ts";
import { readSettings, serviceEnvironment } from "./settings.ts";

const logger = createLogger("host-agent");
try {
  // nft, ip and sysctl are run by name, and a login of a plain user has no sbin.
  process.env.PATH = serviceEnvironment().PATH;
  const agent = new HostAgent({ settings: readSettings(), logger });
  const report = (error: unknown) => logger.error({ err: error }, "not ended");
  process.on("SIGINT", () => void agent.down().catch(report));
  process.on("SIGTERM", () => void agent.release().catch(report));
  await agent.start();
  releaseStartupMemory();
  await agent.ended;
  process.exit(0);
} catch (error) {
  // The wire form is what `hearth up` passes on to its user; the error with its causes is for the log.
  logger.fatal({ err: error, wire: HearthError.from(error).toWire() }, "not started");
  process.exit(1);
}
