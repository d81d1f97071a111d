/**
 * Where a node lives and what it is told, parsed once. An option of the caller counts before the environment,
 * and the environment before the default. Nothing else of this service reads the environment.
 */
import { join, resolve } from "node:path";
import { HearthError } from "@hearth/errors";
import type { NodeLabels } from "@hearth/machine";
import { labelsText, readCpuOvercommit, readLabels } from "./placement-settings.ts";

export interface AgentSettings {
  /** Absolute. What must survive a reboot. */
  readonly dataDir: string;
  /** Absolute and short, as sockets live here. What need not survive one. */
  readonly runDir: string;
  readonly apiHost: string;
  readonly apiPort: number;
  readonly region: string;
  readonly labels?: NodeLabels;
  /** Virtual processors for each of the host's; the worker's own default when absent. */
  readonly cpuOvercommit?: number;
  readonly assetsDir: string;
  /** The folder of `services/`. */
  readonly servicesDir: string;
  /** Where scripts/bundle.ts puts the services as one file each. */
  readonly bundlesDir: string;
}

export interface AgentOptions {
  readonly dataDir?: string;
  readonly runDir?: string;
  readonly apiPort?: number;
  readonly region?: string;
  /** `name=value`, with commas between them. */
  readonly labels?: string;
}

/** Only right in the process of a command: an agent that runs from its bundle is told by its environment. */
const repositoryRoot = resolve(import.meta.dirname, "../../..");
/** The kernel's limit for the path of a socket is 107 bytes; the rest is for the names of machines. */
const maxRunDirBytes = 60;

/** @throws HearthError `invalid_argument` naming the setting */
export function readSettings(
  options: AgentOptions = {},
  env: NodeJS.ProcessEnv = process.env,
): AgentSettings {
  const runDir = resolve(options.runDir ?? env.HEARTH_RUN_DIR ?? "/run/hearth");
  if (Buffer.byteLength(runDir) > maxRunDirBytes) {
    throw invalid("HEARTH_RUN_DIR", `${runDir} is longer than ${maxRunDirBytes} bytes; sockets live there`);
  }
  const region = options.region ?? env.HEARTH_REGION ?? "local";
  if (!/^[a-z0-9-]{1,32}$/.test(region)) throw invalid("HEARTH_REGION", "use 1 to 32 of a-z, 0-9 and -");
  const cpuOvercommit = readCpuOvercommit(env.HEARTH_CPU_OVERCOMMIT);
  return Object.freeze({
    labels: readLabels(options.labels ?? env.HEARTH_LABELS),
    ...(cpuOvercommit === undefined ? {} : { cpuOvercommit }),
    dataDir: resolve(options.dataDir ?? env.HEARTH_DATA_DIR ?? "/var/lib/hearth"),
    runDir,
    apiHost: "127.0.0.1",
    apiPort: options.apiPort ?? readPort(env.HEARTH_API_PORT) ?? 4280,
    region,
    assetsDir: resolve(env.HEARTH_ASSETS ?? join(repositoryRoot, ".hearth/assets")),
    servicesDir: resolve(env.HEARTH_SERVICES ?? join(repositoryRoot, "services")),
    bundlesDir: resolve(env.HEARTH_BUNDLES ?? join(repositoryRoot, ".hearth/services")),
  });
}

/** The variables by which `readSettings` of another process gets the same settings. */
export function settingsEnvironment(settings: AgentSettings): Record<string, string> {
  return {
    HEARTH_DATA_DIR: settings.dataDir,
    HEARTH_RUN_DIR: settings.runDir,
    HEARTH_API_PORT: String(settings.apiPort),
    HEARTH_REGION: settings.region,
    HEARTH_LABELS: labelsText(settings.labels ?? {}),
    HEARTH_CPU_OVERCOMMIT: String(settings.cpuOvercommit ?? ""),
    HEARTH_ASSETS: settings.assetsDir,
    HEARTH_SERVICES: settings.servicesDir,
    HEARTH_BUNDLES: settings.bundlesDir,
  };
}

/**
 * What a process of the node gets of its caller's environment: programs of the host, where to keep temporary
 * files, and how to reach registries. An operator's shell holds secrets that are none of a service's business.
 */
export function serviceEnvironment(env: NodeJS.ProcessEnv = process.env): Record<string, string> {
  const passed = /^(HOME|LANG|LC_ALL|TZ|TMPDIR|SSL_CERT_(FILE|DIR)|NODE_EXTRA_CA_CERTS|(https?|no)_proxy)$/i;
  const kept = Object.entries(env).filter(([name, value]) => passed.test(name) && value !== undefined);
  const path = [env.PATH ?? "/usr/bin:/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"].join(":");
  const variables = { ...(Object.fromEntries(kept) as Record<string, string>), PATH: path };
  const proxied = kept.some(([name]) => /^https?_proxy$/i.test(name));
  return proxied ? { ...variables, NODE_USE_ENV_PROXY: "1" } : variables;
}

function readPort(text: string | undefined): number | undefined {
  if (text === undefined || text === "") return undefined;
  const port = Number(text);
  if (/^\d+$/.test(text) && port >= 1 && port <= 65_535) return port;
  throw invalid("HEARTH_API_PORT", `"${text}" is no port`);
}

function invalid(setting: string, reason: string): HearthError {
  return new HearthError("invalid_argument", {
    message: `${setting}: ${reason}.`,
    details: { field: setting },
  });
}
