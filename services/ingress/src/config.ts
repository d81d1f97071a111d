/** What the front door of a node is told, out of the node's file of settings. */
import { BlockList, isIPv6 } from "node:net";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { type NodeConfig, readNodeConfig } from "@hearth/cluster";

export interface IngressConfig {
  readonly node: NodeConfig;
  /** Only this service writes here. */
  readonly directory: string;
  /** Where its metrics are read. */
  readonly socketPath: string;
  readonly domain: string;
  readonly host: string;
  readonly http: number;
  readonly https: number;
  /** Ports that other services of the host have or may come to have. */
  readonly reserved: readonly number[];
  /** Whose connections begin with a header of the PROXY protocol. */
  readonly proxiedFrom?: BlockList;
  /** Processes of the front door: so many at most, and from the start when an operator has said so. */
  readonly processes: { readonly most: number; readonly isFixed: boolean };
  /** Of the host's own key, to which the secret of certificates is sealed. */
  readonly sealSeedPath: string | undefined;
}

/** Where each takes a core; more doors than that are more copies of the routes for little. */
const mostByLoad = 4;

/** curl and browsers take names below `localhost` for this host, so that it works before anybody has set up names. */
export const defaultDomain = "hearth.localhost";

/** @throws HearthError `invalid_argument` */
export function readIngressConfig(env: NodeJS.ProcessEnv): IngressConfig {
  const node = readNodeConfig(env.HEARTH_NODE_CONFIG);
  const {
    domain = defaultDomain,
    host = "::",
    http = 80,
    https = 443,
    reserved = [],
    processes,
    proxy_protocol_from: sources = [],
  } = node.ingress ?? {};
  return Object.freeze({
    ...{ node, domain, host, http, https },
    directory: join(node.data_dir, "ingress"),
    socketPath: join(node.run_dir, "ingress.sock"),
    reserved: [node.api.port, ...reserved],
    ...(sources.length === 0 ? {} : { proxiedFrom: blockListOf(sources) }),
    processes: {
      most: processes ?? Math.min(availableParallelism(), mostByLoad),
      isFixed: processes !== undefined,
    },
    sealSeedPath: node.certificates?.seal_seed_path,
  });
}

/** @param sources networks as `address/bits` */
export function blockListOf(sources: readonly string[]): BlockList {
  const list = new BlockList();
  for (const source of sources) {
    const [address = "", bits = ""] = source.split("/");
    list.addSubnet(address, Number(bits), isIPv6(address) ? "ipv6" : "ipv4");
  }
  return list;
}
