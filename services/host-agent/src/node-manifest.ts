/** What a node is to be, out of facts: pure. Everything that its services are told is decided here. */
import { join } from "node:path";
import type { NodeConfig } from "@hearth/cluster";
import { parseClusterPrefix, resolverAddress } from "@hearth/network";
import type { KvmProbe } from "@hearth/vmm";
import type { HostFacts } from "./host-facts.ts";
import { keyPaths } from "./host-keys.ts";
import type { NodeIdentity } from "./node-identity.ts";
import type { AgentSettings } from "./settings.ts";

export interface ManifestFacts {
  readonly settings: AgentSettings;
  readonly identity: NodeIdentity;
  readonly host: HostFacts;
  readonly kvm: KvmProbe;
  /** Servers of the bus, the nearest first. */
  readonly busServers: readonly string[];
}

export function planManifest({ settings, identity, host, kvm, busServers }: ManifestFacts): NodeConfig {
  const keys = keyPaths(settings.dataDir);
  const resolver = resolverAddress(parseClusterPrefix(identity.prefix));
  return {
    node_id: identity.node_id,
    host_number: identity.host_number,
    prefix: identity.prefix,
    region: identity.region ?? "local",
    data_dir: settings.dataDir,
    run_dir: settings.runDir,
    nats: { servers: [...busServers], seed_path: keys.node, api_seed_path: keys.api },
    api: { host: identity.address ?? settings.apiHost, port: settings.apiPort },
    ssh: {
      host: identity.address ?? settings.apiHost,
      port: settings.sshPort,
      secret_path: join(settings.dataDir, "credentials/ssh.secret"),
      seal_seed_path: keys.seal,
    },
    assets: {
      kernel: `${settings.assetsDir}/vmlinux`,
      initrd: `${settings.assetsDir}/initrd.cpio`,
      guard: `${settings.assetsDir}/vm-guard`,
      datagrams: `${settings.assetsDir}/datagrams.node`,
    },
    accelerator: kvm.usable ? "kvm" : "tcg",
    capacity: { cpus: host.cpus, memory_mb: machineMemoryMb(host.totalMemoryMb) },
    labels: { ...identity.labels },
    ...(settings.cpuOvercommit === undefined ? {} : { cpu_overcommit: settings.cpuOvercommit }),
    ingress: {
      domain: settings.domain,
      http: settings.httpPort,
      https: settings.httpsPort,
      ...(settings.ingressProcesses === undefined ? {} : { processes: settings.ingressProcesses }),
      reserved: [settings.busPort, settings.routePort, settings.sshPort],
      ...(settings.proxyProtocolFrom === undefined
        ? {}
        : { proxy_protocol_from: [...settings.proxyProtocolFrom] }),
    },
    certificates: {
      seal_seed_path: keys.seal,
      ...(settings.acme === undefined ? {} : { acme: settings.acme }),
    },
    nameservers: [resolver],
    // An operator may have the host ask the same resolver as its guests, which would then ask itself.
    dns: { address: resolver, upstreams: host.nameservers.filter((address) => address !== resolver) },
    warnings: planWarnings(host, kvm),
  };
}

/** The host's own share: a tenth, at least 768 MiB for the services and the kernel. */
export const machineMemoryMb = (totalMb: number): number =>
  Math.max(0, totalMb - Math.max(768, Math.ceil(totalMb / 10)));

function planWarnings(host: HostFacts, kvm: KvmProbe): string[] {
  const warnings: string[] = [];
  if (!kvm.usable) {
    warnings.push(`KVM does not run guests here, so machines are emulated and slow. ${kvm.reason}`);
  }
  if (!host.hasCgroupV2) {
    warnings.push("There is no cgroup v2 here, so limits of CPU and memory are not enforced on the host.");
  }
  if (host.nameservers.length === 0) {
    warnings.push("The host names no resolver in /etc/resolv.conf, so machines resolve private names only.");
  }
  return warnings;
}
