/** An agent of its own for a test: fresh directories, free ports, stand-ins for the services. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createLogger } from "@hearth/telemetry";
import type { AgentStatus } from "../agent-status.ts";
import { agentStatus } from "../control-client.ts";
import { HostAgent, socketPath } from "../host-agent.ts";
import { freePort } from "../host-prepare.ts";
import { bootId, endProcesses, findProcesses } from "../process-identity.ts";
import type { AgentSettings } from "../settings.ts";

export interface TestHost extends AsyncDisposable {
  readonly settings: AgentSettings;
  readonly directory: string;
  agent(): HostAgent;
  /** The status, as soon as `wanted` holds of it. */
  until(wanted: (status: AgentStatus) => boolean): Promise<AgentStatus>;
}

export async function testHost(): Promise<TestHost> {
  const directory = mkdtempSync(join(tmpdir(), "hearth-agent-"));
  const assetsDir = join(directory, "assets");
  mkdirSync(assetsDir);
  for (const name of ["vmlinux", "initrd.cpio"]) writeFileSync(join(assetsDir, name), "");
  const settings: AgentSettings = {
    dataDir: join(directory, "data"),
    runDir: join(directory, "run"),
    apiHost: "127.0.0.1",
    apiPort: await freePort(),
    sshPort: await freePort(),
    busPort: await freePort(),
    routePort: await freePort(),
    httpPort: await freePort(),
    httpsPort: await freePort(),
    domain: "hearth.localhost",
    meshPort: await freePort(),
    region: "test",
    assetsDir,
    servicesDir: join(import.meta.dirname, "services"),
    bundlesDir: join(directory, "bundles"),
  };
  return {
    settings,
    directory,
    agent: () => new HostAgent({ settings, logger: silent, probe: noKvm }),
    until: async (wanted) => {
      const endMs = Date.now() + 20_000;
      for (;;) {
        const now = await agentStatus(socketPath(settings.runDir)).catch(() => undefined);
        if (now !== undefined && wanted(now)) return now;
        if (Date.now() > endMs) throw new Error(`not within 20 s; now: ${JSON.stringify(now)}`);
        await delay(20);
      }
    },
    [Symbol.asyncDispose]: async () => {
      // Nothing, unless the test failed.
      const mark = `HEARTH_DATA_DIR=${settings.dataDir}`;
      await endProcesses(
        findProcesses((_args, environment) => environment.includes(mark)),
        1_000,
      );
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

const silent = createLogger("host-agent", {}, { level: "silent" });
const noKvm = async () => ({ usable: false, reason: `Not tried on boot ${bootId()}.` });

export async function until(wanted: () => boolean | Promise<boolean>, limitMs = 10_000): Promise<void> {
  const endMs = Date.now() + limitMs;
  while (!(await wanted())) {
    if (Date.now() > endMs) throw new Error(`not within ${limitMs} ms`);
    await delay(10);
  }
}
