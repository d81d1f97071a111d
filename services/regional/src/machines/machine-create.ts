/**
 * Makes a machine. What is taken before the machine exists (the key of the request, the name) is given back
 * when the create fails for certain; when it is in doubt it is kept, because the machine may yet appear.
 */
import { HearthError } from "@hearth/errors";
import {
  type MachineId,
  type MachineRecord,
  newInstanceId,
  newMachineId,
  type PlacementReport,
  parseMachineConfig,
} from "@hearth/machine";
import type { ApiContext } from "../api-context.ts";
import { type Claim, claimKey, releaseClaim } from "../http/idempotency.ts";
import { placeMachine } from "../placement/place-machine.ts";
import type { PlacementRequest } from "../placement/placement.ts";
import type { StoredApp } from "../state/cluster-view.ts";
import { untilMachine } from "./machine-access.ts";
import { generateName, type HeldName, releaseName, takeName } from "./machine-name.ts";

const replayLimitMs = 15_000;
const nameAttempts = 5;

export interface CreateRequest {
  readonly name?: string | undefined;
  readonly region?: string | undefined;
  readonly config: unknown;
  readonly launch: boolean;
  readonly leaseTtlMs?: number | undefined;
  /** With the whole body, to tell a retry from another request. */
  readonly idempotency?: { readonly key: string; readonly body: unknown } | undefined;
}

export interface Created {
  readonly record: MachineRecord;
  /** Absent when a retry was answered with the machine of the first request. */
  readonly placement?: PlacementReport;
}

export async function createMachine(
  context: ApiContext,
  appName: string,
  request: CreateRequest,
): Promise<Created> {
  const app = context.view.app(appName);
  const config = parseMachineConfig(request.config);
  const fresh = newMachineId(context.randomBytes);
  const claim =
    request.idempotency && (await claimKey(context, { app: app.name, ...request.idempotency }, fresh));
  if (claim?.isReplay) return { record: await replayed(context, claim) };
  let held: HeldName | undefined;
  try {
    held = await holdName(context, app, request.name, fresh);
    const { cpus, memory_mb } = config.guest;
    const { labels, anti_affinity } = config.placement ?? {};
    const wanted: PlacementRequest = {
      ...{ region: request.region, cpus, memoryMb: memory_mb, image: config.image },
      ...{ labels, antiAffinity: anti_affinity },
    };
    const machine = {
      machine_id: fresh,
      instance_id: newInstanceId(context.randomBytes, context.nowMs),
      app: app.name,
      name: held.name,
      network: app.network,
      ...(app.egress === undefined ? {} : { app_egress: app.egress }),
      config,
      launch: request.launch,
      ...(request.leaseTtlMs === undefined ? {} : { lease_ttl_ms: request.leaseTtlMs }),
    };
    const { view, worker, images } = context;
    const deps = { worker, images, nodes: view.nodeIndex };
    const { answer, report } = await placeMachine(deps, machine, wanted, view.machinesPerNode(app.name));
    return { record: await context.access.settleNew(answer), placement: report };
  } catch (thrown) {
    const error = HearthError.from(thrown);
    if (error.details?.in_doubt !== true) await giveBack(context, claim, held);
    throw error;
  }
}

async function holdName(
  context: ApiContext,
  app: StoredApp,
  name: string | undefined,
  machineId: MachineId,
): Promise<HeldName> {
  if (name !== undefined) return takeName(context, app.name, name, machineId);
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await takeName(context, app.name, generateName(context.randomBytes), machineId);
    } catch (thrown) {
      if (HearthError.from(thrown).code !== "name_taken" || attempt >= nameAttempts) throw thrown;
    }
  }
}

/** The first request with this key may still be at work; its machine is the answer to this one too. */
async function replayed(context: ApiContext, claim: Claim): Promise<MachineRecord> {
  await untilMachine(context.view, claim.machineId, (fact) => fact !== undefined, replayLimitMs);
  const fact = context.view.findMachine(claim.machineId);
  if (fact !== undefined) return context.view.recordOf(fact);
  throw new HearthError("conflict", {
    message: "The first request with this Idempotency-Key is still at work; retry in a moment.",
    details: { machine_id: claim.machineId },
  });
}

/** What cannot be given back now is taken over by whoever wants it, after a while. */
async function giveBack(
  context: ApiContext,
  claim: Claim | undefined,
  held: HeldName | undefined,
): Promise<void> {
  try {
    if (held !== undefined) await releaseName(context, held);
    if (claim !== undefined) await releaseClaim(context, claim);
  } catch (error) {
    context.logger.warn({ err: error }, "what a failed create had taken was not given back");
  }
}
