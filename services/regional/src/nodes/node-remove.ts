/**
 * Takes a node out of the region. Its lease says so for ever, so that the node, should it come back, starts none of
 * the machines that may be elsewhere; its host number stays taken, as peers may hold addresses with it. What it said
 * of itself and its machines only it may delete, so that stays and is not looked at any more. Each part
 * may be repeated: a process that dies here leaves what the next call goes on with. That a server of the bus goes with
 * it is for the agents of the other bus hosts to see to, from when the node is said to be removed.
 */
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "@hearth/errors";
import { factKeys, type LeaseFact, type NodeKeyFact } from "@hearth/machine";
import type { ApiContext } from "../api-context.ts";
import { decideLease, decidePolicy } from "../state/region-writes.ts";
import { needsLease } from "./machine-move.ts";
import { machinesOf } from "./node-drain.ts";
import { type BusExit, isBusMember, refuseForBus, waitForBusExit } from "./node-remove-bus.ts";

const deleteAttempts = 3;
const betweenAttemptsMs = 500;

export interface NodeRemoval {
  readonly forgotten: string[];
  /** Of a node that ran one of the servers of the bus. */
  readonly bus?: BusExit;
}

/** @throws HearthError `not_found`, `conflict` naming what hinders it */
export async function removeNode(context: ApiContext, nodeId: string, force: boolean): Promise<NodeRemoval> {
  const { view, nowMs } = context;
  const { region } = view;
  const isMember = isBusMember(view, nodeId);
  const isRemoved = region.isRemoved(nodeId);
  // Also of one that is removed: who asks again, as the first answer was lost, is told the same.
  const machines = machinesOf(view, nodeId);
  const lease = region.lease(nodeId);
  if (!isRemoved) {
    refuse(context, nodeId, machines, force);
    refuseForBus(context, nodeId);
  }
  const gone: LeaseFact = {
    ...{ node_id: nodeId, state: "removed", ttl_ms: lease?.value.ttl_ms ?? 0 },
    term: (lease?.value.term ?? 0) + 1,
  };
  if (lease?.value.state !== "removed" && !(await decideLease(context, gone, lease?.revision ?? 0)))
    throw new HearthError("conflict", { message: `Node ${nodeId} has just spoken; look at it and retry.` });
  const key = view.replica.get(factKeys.nodeKey(nodeId))?.value as NodeKeyFact | undefined;
  if (!isRemoved) {
    const policy = region.policy(nodeId);
    const value = {
      ...{ node_id: nodeId, cordoned: true, draining: false, changed_at_ms: nowMs() },
      removed: { at_ms: nowMs(), ...(key === undefined ? {} : { host_number: key.host_number }) },
    };
    if (!(await decidePolicy(context, value, policy?.revision ?? 0))) throw new HearthError("conflict");
  }
  // Last: with it go the credentials, and what is said under them until then does not count any more.
  if (key !== undefined) await deleteKey(context, nodeId);
  const forgotten = machines.map(({ record }) => record.id);
  return isMember ? { forgotten, bus: await waitForBusExit(context, nodeId) } : { forgotten };
}

/** A server of the bus that leaves because of what was written before may take the answer with it. */
async function deleteKey({ facts }: ApiContext, nodeId: string): Promise<void> {
  for (let attempt = 1; ; attempt += 1)
    try {
      await facts().delete(factKeys.nodeKey(nodeId));
      return;
    } catch (thrown) {
      const { code } = HearthError.from(thrown);
      if (attempt === deleteAttempts || (code !== "deadline_exceeded" && code !== "unavailable"))
        throw thrown;
      await delay(betweenAttemptsMs);
    }
}

function refuse(
  { view }: ApiContext,
  nodeId: string,
  machines: ReturnType<typeof machinesOf>,
  force: boolean,
): void {
  const names = machines.map(({ app, record }) => `${app}/${record.name} (${record.id})`);
  if (!force && machines.length > 0)
    throw new HearthError("conflict", {
      message: `Node ${nodeId} has machines: ${names.join(", ")}. Drain it first; if its host is gone for good, use force, and they are forgotten.`,
      details: { machines: machines.map(({ record }) => record.id) },
    });
  if (machines.length === 0) return;
  const state = view.region.lease(nodeId)?.value.state;
  if (view.isNodeFresh({ node_id: nodeId }) || (state !== undefined && state !== "fenced"))
    throw new HearthError("conflict", {
      message: `Node ${nodeId} has not been given up, so its machines may run; drain it, or stop it and wait until it is unreachable.`,
      details: { node_id: nodeId },
    });
  const waiting = machines.filter(needsLease);
  if (waiting.length > 0)
    throw new HearthError("conflict", {
      message: `Machines of node ${nodeId} are to start elsewhere and have not yet: ${waiting.map(({ record }) => record.id).join(", ")}. \`hearth node show ${nodeId}\` says why.`,
      details: { machines: waiting.map(({ record }) => record.id) },
    });
}
