/**
 * Where a node lives and what it is told, parsed once. An option of the caller counts before the environment,
 * and the environment before the default. Nothing else of this service reads the environment.
 */
import { isIP } from "node:net";
import { join, resolve } from "node:path";
import { HearthError } from "@hearth/errors";
import type { NodeLabels } from "@hearth/machine";
import { canonicalIp } from "@hearth/network";
import { type AcmeSettings, acmeEnvironment, readAcmeSettings } from "./acme-settings.ts";
import { labelsText, readCpuOvercommit, readLabels } from "./placement-settings.ts";

export interface AgentSettings {
  /** Absolute. What must survive a reboot. */
  readonly dataDir: string;
  /** Absolute and short, as sockets live here. What need not survive one. */
  readonly runDir: string;
  /** Where it listens when the host has no address for others. */
  readonly apiHost: string;
  readonly apiPort: number;
  /** Of the SSH gateway, at the same address as the API. */
  readonly sshPort: number;
  /** Where other hosts reach this one; what the host was given before when absent, and else nobody reaches it. */
  readonly address?: string;
  /** Of the bus, with an address: for clients, and for other servers. */
  readonly busPort: number;
  readonly routePort: number;
  /** Of the mesh, with an address: UDP, this one and the next, as keys are rotated from one to the other. */
  readonly meshPort: number;
  /** What the host was given before, or `local`, when absent. */
  readonly region?: string;
  /** What the host was given before when absent. */
  readonly labels?: NodeLabels;
  /** Virtual processors for each of the host's; the worker's own default when absent. */
  readonly cpuOvercommit?: number;
  /** Of the front door: where it listens, and the name that apps are below. */
  readonly httpPort: number;
  readonly httpsPort: number;
  readonly domain: string;
  /** Networks of load balancers that say by the PROXY protocol whose a connection is. */
  readonly proxyProtocolFrom?: readonly string[];
  /** Of the front door, from the start; by load when absent. */
  readonly ingressProcesses?: number;
  /** Certificates of custom domains are each host's own when absent. */
  readonly acme?: AcmeSettings;
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
  readonly address?: string;
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
  const region = options.region ?? (env.HEARTH_REGION || undefined);
  if (region !== undefined && !/^[a-z0-9-]{1,32}$/.test(region))
    throw invalid("HEARTH_REGION", "use 1 to 32 of a-z, 0-9 and -");
  const address = readAddress(options.address ?? (env.HEARTH_ADDRESS || undefined));
  const labels = options.labels ?? (env.HEARTH_LABELS || undefined);
  const cpuOvercommit = readCpuOvercommit(env.HEARTH_CPU_OVERCOMMIT);
  const ingressProcesses = readIngressProcesses(env);
  const acme = readAcmeSettings(env);
  return Object.freeze({
    ...(labels === undefined ? {} : { labels: readLabels(labels) }),
    ...(cpuOvercommit === undefined ? {} : { cpuOvercommit }),
    ...(ingressProcesses === undefined ? {} : { ingressProcesses }),
    dataDir: resolve(options.dataDir ?? env.HEARTH_DATA_DIR ?? "/var/lib/hearth"),
    runDir,
    apiHost: "127.0.0.1",
    apiPort: options.apiPort ?? readPort("HEARTH_API_PORT", env) ?? 4280,
    sshPort: readPort("HEARTH_SSH_PORT", env) ?? 2222,
    busPort: readPort("HEARTH_BUS_PORT", env) ?? 4222,
    routePort: readPort("HEARTH_ROUTE_PORT", env) ?? 6222,
    httpPort: readPort("HEARTH_HTTP_PORT", env) ?? 80,
    httpsPort: readPort("HEARTH_HTTPS_PORT", env) ?? 443,
    domain: readDomain(env),
    ...readProxyProtocolFrom(env),
    ...(acme === undefined ? {} : { acme }),
    meshPort: readPort("HEARTH_MESH_PORT", env, 65_534) ?? 51_820,
    ...(address === undefined ? {} : { address }),
    ...(region === undefined ? {} : { region }),
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
    HEARTH_SSH_PORT: String(settings.sshPort),
    HEARTH_BUS_PORT: String(settings.busPort),
    HEARTH_ROUTE_PORT: String(settings.routePort),
    HEARTH_HTTP_PORT: String(settings.httpPort),
    HEARTH_HTTPS_PORT: String(settings.httpsPort),
    HEARTH_DOMAIN: settings.domain,
    HEARTH_PROXY_PROTOCOL_FROM: settings.proxyProtocolFrom?.join(",") ?? "",
    ...acmeEnvironment(settings.acme),
    HEARTH_MESH_PORT: String(settings.meshPort),
    ...(settings.address === undefined ? {} : { HEARTH_ADDRESS: settings.address }),
    ...(settings.region === undefined ? {} : { HEARTH_REGION: settings.region }),
    ...(settings.labels === undefined ? {} : { HEARTH_LABELS: labelsText(settings.labels) }),
    HEARTH_INGRESS_PROCESSES: String(settings.ingressProcesses ?? ""),
    HEARTH_CPU_OVERCOMMIT: String(settings.cpuOvercommit ?? ""),
    HEARTH_ASSETS: settings.assetsDir,
    HEARTH_SERVICES: settings.servicesDir,
    HEARTH_BUNDLES: settings.bundlesDir,
  };
}

/** The allocator keeps a pool of free memory for each thread that meets another in it; a service's threads mostly wait. */
const oneArena = { MALLOC_ARENA_MAX: "1" };

/**
 * What a process of the node gets of its caller's environment: programs of the host, where to keep temporary
 * files, and how to reach registries. An operator's shell holds secrets that are none of a service's business.
 */
export function serviceEnvironment(env: NodeJS.ProcessEnv = process.env): Record<string, string> {
  const passed = /^(HOME|LANG|LC_ALL|TZ|TMPDIR|SSL_CERT_(FILE|DIR)|NODE_EXTRA_CA_CERTS|(https?|no)_proxy)$/i;
  const kept = Object.entries(env).filter(([name, value]) => passed.test(name) && value !== undefined);
  const path = [env.PATH ?? "/usr/bin:/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"].join(":");
  const variables = { ...oneArena, ...(Object.fromEntries(kept) as Record<string, string>), PATH: path };
  const proxied = kept.some(([name]) => /^https?_proxy$/i.test(name));
  return proxied ? { ...variables, NODE_USE_ENV_PROXY: "1" } : variables;
}

/** In the one text that it has, as it is looked for among those of the interfaces. */
function readAddress(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const address = canonicalIp(text);
  if (address !== undefined && !/^(0\.0\.0\.0$|127\.|::1?$|fe80:)/.test(address)) return address;
  throw invalid("HEARTH_ADDRESS", `${text} is no address of this host that other hosts could reach`);
}

function readDomain(env: NodeJS.ProcessEnv): string {
  const domain = env.HEARTH_DOMAIN || "hearth.localhost";
  if (/^[a-z0-9]([a-z0-9.-]{0,200}[a-z0-9])?$/.test(domain)) return domain;
  throw invalid("HEARTH_DOMAIN", `"${domain}" is no name in lower case, such as apps.example.com`);
}

/** Networks, parted by commas; an address alone is a network of one. */
function readProxyProtocolFrom(env: NodeJS.ProcessEnv): Pick<AgentSettings, "proxyProtocolFrom"> {
  const name = "HEARTH_PROXY_PROTOCOL_FROM";
  const parts = (env[name] ?? "").split(",").map((part) => part.trim());
  const sources = parts
    .filter((part) => part !== "")
    .map((part) => {
      const [address = "", bits, more] = part.split("/");
      const family = isIP(address);
      const most = family === 6 ? 128 : 32;
      const length = bits ?? String(most);
      if (family === 0 || more !== undefined || !/^\d{1,3}$/.test(length) || Number(length) > most)
        throw invalid(name, `"${part}" is no network, such as 192.0.2.0/24 or 2001:db8::/64`);
      return `${address}/${length}`;
    });
  return sources.length === 0 ? {} : { proxyProtocolFrom: sources };
}

function readIngressProcesses(env: NodeJS.ProcessEnv): number | undefined {
  const text = env.HEARTH_INGRESS_PROCESSES;
  if (text === undefined || text === "") return undefined;
  const count = Number(text);
  if (/^\d+$/.test(text) && count >= 1 && count <= 64) return count;
  throw invalid("HEARTH_INGRESS_PROCESSES", `"${text}" is no number of processes from 1 to 64`);
}

function readPort(name: string, env: NodeJS.ProcessEnv, last = 65_535): number | undefined {
  const text = env[name];
  if (text === undefined || text === "") return undefined;
  const port = Number(text);
  if (/^\d+$/.test(text) && port >= 1 && port <= last) return port;
  throw invalid(name, `"${text}" is no port`);
}

function invalid(setting: string, reason: string): HearthError {
  return new HearthError("invalid_argument", {
    message: `${setting}: ${reason}.`,
    details: { field: setting },
  });
}
