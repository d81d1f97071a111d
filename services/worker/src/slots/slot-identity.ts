/** The plans of a machine's slot, from its row. Pure. */
import { type EgressPolicyInput, egressPolicyOf, mergeEgress } from "@hearth/machine";
import { planSlot, planTeardown, type SlotPlan, type SlotTeardown } from "@hearth/network";
import type { NodeIdentity } from "../machines/machine-record.ts";
import type { MachineRow } from "../machines/machine-row.ts";

export function addressing({ prefix, hostNumber }: NodeIdentity, row: MachineRow) {
  return {
    machineId: row.machineId,
    address: { prefix, host: hostNumber, network: row.network, machine: row.machineNumber },
    egressSlot: row.egressSlot,
  };
}

/** What a machine may send, of itself and of its app; undefined when neither says anything. */
export function wantedEgress({ appEgress, config }: MachineRow): EgressPolicyInput | undefined {
  const said = mergeEgress(appEgress?.policy, config.network);
  return egressPolicyOf(said, undefined) === undefined ? undefined : said;
}

/** A slot with the identity of its machine. @param egress of what it may send; everything when absent */
export function slotPlanWith(
  identity: NodeIdentity,
  row: MachineRow,
  slot: string,
  egress?: EgressPolicyInput,
): SlotPlan {
  const policy = egressPolicyOf(egress, undefined);
  const facts = { node: identity.nodeId, slot, ...addressing(identity, row) };
  return planSlot(policy === undefined ? facts : { ...facts, egress: policy });
}

/** Whether a change of what it may send was begun, and may not be done. */
export const isEgressUnsure = ({ slotEgress }: Pick<MachineRow, "slotEgress">): boolean =>
  (slotEgress?.length ?? 0) > 1;

/** Everything that may be there of a machine's slot: of all policies that it may have by now. */
export function heldSlotPlan(identity: NodeIdentity, row: MachineRow, slot: string): SlotPlan {
  const plans = (row.slotEgress ?? []).map((egress) => slotPlanWith(identity, row, slot, egress));
  const plan = plans[0] ?? slotPlanWith(identity, row, slot);
  const elements = new Map(
    [plan, ...plans].flatMap((one) => one.elements.map((each) => [`${each.set} ${each.value}`, each])),
  );
  return { ...plan, elements: [...elements.values()] };
}

export function heldSlotTeardown(identity: NodeIdentity, row: MachineRow, slot: string): SlotTeardown {
  return { ...planTeardown(heldSlotPlan(identity, row, slot)), egressUnsure: isEgressUnsure(row) };
}
