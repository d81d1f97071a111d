/**
 * Brings what a machine may send to its slot. What is applied is on disk before it is applied, so that whoever takes the
 * slot away, or changes the policy again, knows what may be there: also after a worker died between the two.
 */
import type { EgressPolicyInput } from "@hearth/machine";
import type { EgressElement } from "@hearth/network";
import type { MachineRow } from "../machines/machine-row.ts";
import { heldSlot, type RunParts } from "../runs/run-parts.ts";
import { isEgressUnsure, slotPlanWith, wantedEgress } from "./slot-identity.ts";

const asSaid = (policy: EgressPolicyInput | undefined): readonly EgressPolicyInput[] | null =>
  policy === undefined ? null : [policy];

const isAlike = (one: MachineRow["slotEgress"], other: MachineRow["slotEgress"]): boolean =>
  JSON.stringify(one) === JSON.stringify(other);

/** The policy of the record is not that of its slot. */
export const isEgressStale = (row: MachineRow): boolean =>
  !isAlike(row.slotEgress, asSaid(wantedEgress(row)));

/** Gives a slot that the machine has just claimed, or had, its identity and its policy, in one transaction. */
export async function applySlotOf(
  parts: RunParts,
  row: MachineRow,
  { slot, isNew }: { readonly slot: string; readonly isNew: boolean },
  signal: AbortSignal,
): Promise<void> {
  const { identity, network, store } = parts;
  const wanted = wantedEgress(row);
  if (isNew && isEgressStale(row)) store.note(row.machineId, { slotEgress: asSaid(wanted) });
  else if (isEgressStale(row)) {
    await network.applySlot(slotPlanWith(identity, row, slot), signal);
    return await changeEgress(parts, row.machineId, signal);
  }
  await network.applySlot(slotPlanWith(identity, row, slot, wanted), signal);
}

/** Puts the policy of the record in the place of that of the slot, for a machine that runs or is being started. */
export async function changeEgress(parts: RunParts, machineId: string, signal: AbortSignal): Promise<void> {
  const { config, identity, network, store } = parts;
  const slot = heldSlot(parts, machineId);
  if (slot === undefined) return;
  const row = store.get(machineId);
  if (!isEgressStale(row)) return;
  const wanted = wantedEgress(row);
  const before = row.slotEgress ?? [{}];
  // Of a change that was never finished, either may be there, and neither may be forgotten.
  const isAgain = isAlike([before.at(-1) ?? {}], [wanted ?? {}]);
  if (!isAgain) store.note(machineId, { slotEgress: [...before, wanted ?? {}] });
  const members = (policy: EgressPolicyInput | undefined): EgressElement[] =>
    slotPlanWith(identity, row, slot, policy).elements.filter((one): one is EgressElement =>
      one.set.startsWith("egress_"),
    );
  const [from, to] = [members(before[0]), members(wanted)];
  const change = { node: config.node_id, slot, from, to, isUnsure: isEgressUnsure(row) };
  await network.exchangeEgress(change, signal);
  store.note(machineId, { slotEgress: asSaid(wanted) });
}
