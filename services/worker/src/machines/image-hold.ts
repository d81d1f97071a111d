/**
 * The images that a machine holds at the images service, one hold an instance. An update holds two until its
 * version has run: the one before must not need a registry to come back.
 */

import type { RunParts } from "../runs/run-parts.ts";
import type { MachineRow } from "./machine-row.ts";

export const imageHolder = ({ machineId, instanceId }: Pick<MachineRow, "machineId" | "instanceId">) =>
  `${machineId}.${instanceId}`;

const holdersOf = ({ ledger }: RunParts, machineId: string): string[] =>
  ledger
    .ofMachine(machineId)
    .filter(({ kind }) => kind === "image")
    .map(({ key }) => key);

export const holdsImage = (parts: RunParts, row: MachineRow): boolean =>
  holdersOf(parts, row.machineId).includes(imageHolder(row));

/** Holds of versions that the machine can neither run nor go back to. */
export function staleHolders(parts: RunParts, row: MachineRow): string[] {
  const { machineId, rollback } = row;
  const needed = new Set([imageHolder(row)]);
  if (rollback?.kind === "to") needed.add(imageHolder({ machineId, instanceId: rollback.instanceId }));
  return holdersOf(parts, machineId).filter((holder) => !needed.has(holder));
}

export async function releaseHolders(
  { images, ledger }: RunParts,
  machineId: string,
  holders: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  for (const holder of holders) {
    await images.release(holder, signal);
    ledger.release({ kind: "image", key: holder, machineId });
  }
}

/** What the version of now holds. */
export async function releaseImage(parts: RunParts, row: MachineRow, signal: AbortSignal): Promise<void> {
  if (holdsImage(parts, row)) await releaseHolders(parts, row.machineId, [imageHolder(row)], signal);
}

export const releaseStaleImages = (parts: RunParts, row: MachineRow, signal: AbortSignal) =>
  releaseHolders(parts, row.machineId, staleHolders(parts, row), signal);

export const releaseAllImages = (parts: RunParts, machineId: string, signal: AbortSignal) =>
  releaseHolders(parts, machineId, holdersOf(parts, machineId), signal);
