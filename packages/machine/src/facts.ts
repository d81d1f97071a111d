/**
 * What one part of a cluster tells the others, and under which key. A fact is a replica of its owner's
 * truth: it is read to choose and to answer, never to act without asking the owner.
 */
import type { EgressPolicyInput } from "./egress.ts";
import type { InstanceId } from "./ids.ts";
import type { NodeLabels } from "./placement.ts";
import type { MachineRecord } from "./record.ts";

export const factKeys = {
  /** The node is part of the key, so that the bus itself refuses what a node says of another's machines. */
  machine: (nodeId: string, id: string) => `machine.${nodeId}.${id}`,
  node: (id: string) => `node.${id}`,
  /** The right of a node to run what may be started elsewhere. Written by its worker and by the API, each by CAS. */
  lease: (nodeId: string) => `lease.${nodeId}`,
  /** What operators want of a node. */
  nodePolicy: (nodeId: string) => `node-policy.${nodeId}`,
  /** Who a node is: its public keys, its host number, what it may do. */
  nodeKey: (nodeId: string) => `node-key.${nodeId}`,
  /** The number of a host, taken once; so no two have the same addresses for their machines. */
  hostNumber: (number: number) => `host-number.${number}`,
  /** A token that lets one host in, by the sha256 of its secret in hex. */
  join: (hash: string) => `join.${hash}`,
  /** How a host is reached over the mesh; its own word, which is judged by what the region knows of it. */
  mesh: (nodeId: string) => `mesh.${nodeId}`,
  /** Which keys of the mesh the region wants. */
  meshEpoch: () => "mesh-epoch.wanted",
  /** Which hosts run the servers of the bus. */
  bus: () => "bus.servers",
  /** Where a machine that was moved belongs; a machine that never moved has none. */
  placement: (machineId: string) => `placement.${machineId}`,
  app: (name: string) => `app.${name}`,
  network: (orgSlug: string, name: string) => `network.${orgSlug}.${name}`,
  /** The two names in order, so that a pair has one key. */
  networkPair: (orgSlug: string, one: string, other: string) =>
    `network-pair.${orgSlug}.${[one, other].sort().join(".")}`,
  /** Holds the name of a machine within its app. */
  machineName: (app: string, name: string) => `machine-name.${app}.${name}`,
  /** By the sha256 of the token's id, in hex. */
  token: (idHash: string) => `token.${idHash}`,
  /** The public key that checks what the API of one host has signed. */
  signingKey: (kid: string) => `signing-key.${kid}`,
  /** The hash of the operator's token of one host. */
  adminToken: (nodeId: string) => `admin-token.${nodeId}`,
  /** What the SSH gateways of the region have in common, sealed. */
  sshAuthority: () => "ssh.authority",
  /** Which app a custom domain belongs to. A name is as many tokens as it has labels. */
  hostname: (hostname: string) => `hostname.${hostname}`,
  /** What becomes of its certificate by ACME. */
  acme: (hostname: string) => `acme.${hostname}`,
  /** By the sha256 of the directory's URL, in hex. */
  acmeAccount: (hash: string) => `acme-account.${hash}`,
  /** What keys of certificates are sealed with, sealed for each host. */
  certificateSecret: () => "certificate-secret.region",
} as const;

export const factPrefixes = {
  machine: "machine.",
  machineName: "machine-name.",
  idempotency: "idempotency.",
  node: "node.",
  app: "app.",
  network: "network.",
  networkPair: "network-pair.",
  lease: "lease.",
  nodePolicy: "node-policy.",
  nodeKey: "node-key.",
  hostNumber: "host-number.",
  join: "join.",
  mesh: "mesh.",
  meshEpoch: "mesh-epoch.",
  bus: "bus.",
  placement: "placement.",
  token: "token.",
  signingKey: "signing-key.",
  adminToken: "admin-token.",
  ssh: "ssh.",
  hostname: "hostname.",
  acme: "acme.",
} as const;

/** Of which there is at least one a machine: who keeps a copy of the state reads them from its disk. */
export const perMachinePrefixes: readonly string[] = [
  factPrefixes.machine,
  factPrefixes.machineName,
  factPrefixes.idempotency,
];

const ownWords: readonly string[] = [factPrefixes.machine, factPrefixes.node, factPrefixes.mesh];

/** What a node says of itself and of its machines, again and again. All other facts are the API's, and only it has them. */
export const isOwnWord = (key: string): boolean => ownWords.some((prefix) => key.startsWith(prefix));

/** Owned by the machine's worker. */
export interface MachineFact {
  readonly node_id: string;
  readonly app: string;
  /** Grows with each change of this machine at its worker; a reader waits for the one that its write got. */
  readonly revision: number;
  /** `events` holds the newest 20. */
  readonly record: MachineRecord;
  /** Address that the host reaches the guest at besides `record.private_ip`. */
  readonly egress_ip: string;
  /** What is wanted of it; its state may say otherwise while its node has no right to run it. */
  readonly desired?: "started" | "stopped" | "destroyed";
  /** It is kept down here for another node, by this decision of the region. */
  readonly yielded_term?: number;
  /** The last update, when its version could not start: the machine is back at the version before it. */
  readonly failed_update?: FailedUpdate;
}

export interface FailedUpdate {
  readonly version: InstanceId;
  readonly code: string;
  readonly step: string;
  readonly message: string;
}

/** Owned by the node's worker; published every few seconds. */
export interface NodeFact {
  readonly node_id: string;
  readonly region: string;
  readonly version: string;
  readonly accelerator: "kvm" | "tcg";
  readonly total_cpus: number;
  readonly total_memory_mb: number;
  /** Cold: what the worker would still admit, of memory and of virtual processors. */
  readonly free_memory_mb: number;
  readonly free_cpus?: number;
  /** Held now for machines that are about to be committed; not part of what is free. */
  readonly reserved_memory_mb?: number;
  readonly reserved_cpus?: number;
  /** Hot: machines that wait, booted, for somebody to take them. 0 until a worker keeps such. */
  readonly hot_slots?: number;
  /** How many virtual processors one of the node's stands for. Memory is never promised twice. */
  readonly cpu_overcommit?: number;
  /** What an operator says of the node, for machines that ask for it. */
  readonly labels?: NodeLabels;
  /** Images of its machines, as their configurations name them; the newest ones. */
  readonly images?: readonly string[];
  readonly machines: number;
  /** Sentences about what is not enforced on this host. */
  readonly warnings: readonly string[];
  /** Sentences about what does not work now; while there is one, the node takes no new machine. */
  readonly problems?: readonly string[];
  readonly pressure?: NodePressure;
  readonly published_at_ms: number;
  /** From this revision on, the node has said again of each machine that it has; what is older is of none. */
  readonly restated?: { readonly stream: string; readonly revision: number };
}

/** How hard the host is pressed, in percent. What the kernel does not tell is absent. */
export interface NodePressure {
  /** Time in the last minute in which something waited for a processor. */
  readonly cpu_waiting?: number;
  readonly memory_used: number;
  /** Of the file system that the data directory is on. */
  readonly disk_used: number;
  readonly disk_free_mb: number;
}

/** Owned by the regional API, written by compare-and-set. */
export interface AppFact {
  readonly id: string;
  readonly name: string;
  readonly org_slug: string;
  /** The 32 bits of network in every address of the app's machines. */
  readonly network: number;
  /** What its machines may send, where they do not say so themselves. */
  readonly egress?: AppEgress;
  readonly created_at_ms: number;
}

export interface AppEgress {
  readonly policy: EgressPolicyInput;
  /** Grows with each change, so that what was long under way does not bring back an old one. */
  readonly version: number;
}

/** Owned by the regional API. */
export interface NetworkFact {
  /** The 32 bits of network in addresses. */
  readonly network: number;
  readonly created_at_ms: number;
  /** Somebody is about to delete it, and no app may come to use it. */
  readonly deleting?: boolean;
}

/** Two networks of one organisation whose machines may talk, in both directions. Read by workers. */
export interface NetworkPairFact {
  readonly names: readonly [string, string];
  readonly networks: readonly [number, number];
  readonly created_at_ms: number;
}

export interface MachineNameFact {
  readonly machine_id: string;
  readonly taken_at_ms: number;
}

/** What a worker answers to a command that changes a machine. */
export interface MachineAnswer {
  readonly record: MachineRecord;
  readonly revision: number;
}

/** What a worker answers to `reserve`. */
export interface ReserveAnswer {
  /** Grows with each reservation of this worker's database; never used twice. */
  readonly fence: number;
  readonly ttl_ms: number;
  /** What is left besides. */
  readonly free_memory_mb: number;
  readonly free_cpus: number;
}
