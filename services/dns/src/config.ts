/** What the service knows when it starts: the node's config, where it listens, and whom it asks about public names. */
import { join } from "node:path";
import { type NodeConfig, readNodeConfig } from "@hearth/cluster";
import { parseClusterPrefix, resolverAddress } from "@hearth/network";
import type { Upstream } from "./upstream-query.ts";

export interface DnsConfig {
  readonly node: NodeConfig;
  readonly prefix: bigint;
  readonly address: string;
  readonly port: number;
  readonly upstreams: readonly Upstream[];
  /** Only this service writes here. */
  readonly directory: string;
  /** Of the native part that moves datagrams in batches; absent where there is none. */
  readonly datagramsPath: string | undefined;
  /** Where its metrics are read. */
  readonly socketPath: string;
}

/** @throws HearthError `invalid_argument` */
export function readDnsConfig(env: NodeJS.ProcessEnv): DnsConfig {
  const node = readNodeConfig(env.HEARTH_NODE_CONFIG);
  const prefix = parseClusterPrefix(node.prefix);
  return Object.freeze({
    ...{ node, prefix },
    address: node.dns?.address ?? resolverAddress(prefix),
    port: node.dns?.port ?? 53,
    upstreams: (node.dns?.upstreams ?? []).map(readUpstream),
    directory: join(node.data_dir, "dns"),
    datagramsPath: node.assets.datagrams,
    socketPath: join(node.run_dir, "dns.sock"),
  });
}

/** `address` or `address#port`, as dnsmasq and unbound have it. */
function readUpstream(text: string): Upstream {
  const [address = "", port = "53"] = text.split("#");
  return { address, port: Number(port) };
}
