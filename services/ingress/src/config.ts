/** What the front door of a node is told, out of the node's file of settings. */
import { BlockList, isIPv6 } from "node:net";
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
}

/** curl and browsers take names below `localhost` for this host, so that it works before anybody has set up names. */
export const defaultDomain = "hearth.localhost";

/** @throws HearthError `invalid_argument` */
export function readIngressConfig(env: NodeJS.ProcessEnv): IngressConfig {
  const node = readNodeConfig(env.HEARTH_NODE_CONFIG);
  const { ingress = {} } = node;
  const { domain = defaultDomain, host = "::", http = 80, https = 443, reserved = [] } = ingress;
  const { proxy_protocol_from: sources = [] } = ingress;
  return Object.freeze({
    ...{ node, domain, host, http, https },
    directory: join(node.data_dir, "ingress"),
    socketPath: join(node.run_dir, "ingress.sock"),
    reserved: [node.api.port, ...reserved],
    ...(sources.length === 0 ? {} : { proxiedFrom: blockListOf(sources) }),
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
