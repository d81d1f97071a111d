/** The record that clients read, and the fact that others keep, from a row. Pure. */
import type { ImageRef, MachineEvent, MachineFact, MachineRecord, NodeImage } from "@hearth/machine";
import { type ClusterPrefix, egressPair, formatMachineAddress } from "@hearth/network";
import { checksOf } from "../checks/machine-checks.ts";
import type { MachineRow } from "./machine-row.ts";

export interface NodeIdentity {
  readonly nodeId: string;
  readonly prefix: ClusterPrefix;
  readonly hostNumber: number;
}

export const privateAddress = (node: NodeIdentity, row: MachineRow): string =>
  formatMachineAddress({
    prefix: node.prefix,
    host: node.hostNumber,
    network: row.network,
    machine: row.machineNumber,
  });

/** @param events newest first */
export function recordOf(
  node: NodeIdentity,
  row: MachineRow,
  events: readonly MachineEvent[],
): MachineRecord {
  return {
    id: row.machineId,
    name: row.name,
    state: row.state,
    region: row.region,
    instance_id: row.instanceId,
    version: row.instanceId,
    private_ip: privateAddress(node, row),
    created_at: new Date(row.createdMs).toISOString(),
    updated_at: new Date(row.updatedMs).toISOString(),
    image_ref: imageRef(row.config.image, row.image),
    config: row.config,
    incomplete_config: null,
    events,
    checks: checksOf(row),
    host_status: "ok",
    cordoned: row.cordoned,
  };
}

export function factOf(node: NodeIdentity, row: MachineRow, events: readonly MachineEvent[]): MachineFact {
  return {
    node_id: node.nodeId,
    app: row.app,
    revision: row.revision,
    record: recordOf(node, row, events),
    desired: row.desired,
    ...(row.placement?.role === "yielded" ? { yielded_term: row.placement.term } : {}),
    egress_ip: egressPair(row.egressSlot).guestV4,
    ...(row.rollback?.kind === "from" ? { failed_update: row.rollback.failed } : {}),
  };
}

/** Until the image is there, what its reference says by itself. */
export function imageRef(reference: string, image: NodeImage | null): ImageRef {
  const full = image?.reference ?? reference;
  const [named = "", pinned = ""] = full.split("@");
  const slash = named.indexOf("/");
  const first = slash < 0 ? "" : named.slice(0, slash);
  const hasRegistry = /[.:]/.test(first) || first === "localhost";
  const path = hasRegistry ? named.slice(slash + 1) : named;
  const colon = path.lastIndexOf(":");
  return {
    registry: hasRegistry ? first : "docker.io",
    repository: colon < 0 ? path : path.slice(0, colon),
    tag: colon < 0 ? (pinned === "" ? "latest" : "") : path.slice(colon + 1),
    digest: image?.digest ?? pinned,
    labels: image?.config.labels ?? {},
  };
}
