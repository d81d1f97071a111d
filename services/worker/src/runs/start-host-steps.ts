/** The steps of a start that make things on the host: image, scratch disk, network slot. */
import { access } from "node:fs/promises";
import { crashPoint } from "../journal/crash-point.ts";
import { holdsImage, imageHolder, releaseImage } from "../machines/image-hold.ts";
import { keepsDisk } from "../machines/machine-program.ts";
import { applySlotOf } from "../slots/slot-egress.ts";
import { heldSlotTeardown } from "../slots/slot-identity.ts";
import { slotKind } from "../slots/slot-pool.ts";
import { heldSlot, type MachineStep, type RunParts } from "./run-parts.ts";
import { defaultScratchGb } from "./scratch-disk.ts";

const present = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** What the reference means is settled at the first start of an instance; later starts run the same bytes. */
export function imageStep(parts: RunParts): MachineStep {
  const { store, ledger, images } = parts;
  return {
    name: "image",
    limitMs: parts.limits.imageMs,
    maxAttempts: 3,
    inspect: async ({ machineId }) => {
      const { image } = store.get(machineId);
      return image !== null && holdsImage(parts, store.get(machineId)) && (await present(image.rootfsPath));
    },
    do: async ({ machineId }, { signal }) => {
      const row = store.get(machineId);
      const holder = imageHolder(row);
      ledger.claim({ kind: "image", key: holder, machineId });
      const image = await images.ensure(row.config.image, holder, signal);
      signal.throwIfAborted();
      store.note(machineId, { image });
      return { kind: "done" };
    },
    undo: async ({ machineId }, { signal }) => await releaseImage(parts, store.get(machineId), signal),
  };
}

export function scratchStep(parts: RunParts): MachineStep {
  const { store, ledger, disks, paths } = parts;
  return {
    name: "scratch-disk",
    limitMs: parts.limits.scratchDiskMs,
    maxAttempts: 3,
    // Only a disk that is to be kept can be there already; others begin anew with each start.
    inspect: async ({ machineId }) =>
      keepsDisk(store.get(machineId).config, true) && (await present(paths.scratch(machineId))),
    do: async ({ machineId }, { signal }) => {
      const path = paths.scratch(machineId);
      ledger.claim({ kind: "scratch", key: path, machineId });
      const sizeGb = store.get(machineId).config.rootfs?.size_gb || defaultScratchGb;
      await disks.make(path, sizeGb, signal);
      return { kind: "done" };
    },
    undo: async ({ machineId }) => {
      if (!keepsDisk(store.get(machineId).config, false)) await dropScratch(parts, machineId);
    },
  };
}

export async function dropScratch({ ledger, disks, paths }: RunParts, machineId: string): Promise<void> {
  const path = paths.scratch(machineId);
  await disks.remove(path);
  ledger.release({ kind: "scratch", key: path, machineId });
}

export function slotStep(parts: RunParts): MachineStep {
  const { store, network, slots } = parts;
  return {
    name: "network-slot",
    limitMs: parts.limits.networkSlotMs,
    maxAttempts: 3,
    inspect: async () => false, // applying what is applied is the look
    do: async ({ machineId }, { signal }) => {
      const held = heldSlot(parts, machineId);
      // A restart of the host took it away, and left its row.
      const gone = held !== undefined && !(await network.hasSlot(held, signal));
      if (gone) await releaseSlot(parts, machineId);
      const isNew = held === undefined || gone;
      const slot = isNew ? await slots.claim(machineId, signal) : held;
      crashPoint("apply slot", "before");
      await applySlotOf(parts, store.get(machineId), { slot, isNew }, signal);
      crashPoint("apply slot", "after");
      return { kind: "done" };
    },
    undo: async ({ machineId }) => await releaseSlot(parts, machineId),
  };
}

/** Deletes it: what a guest has used is never given to another. */
export async function releaseSlot(parts: RunParts, machineId: string): Promise<void> {
  const slot = heldSlot(parts, machineId);
  if (slot === undefined) return;
  const { identity, network, store } = parts;
  const row = store.get(machineId);
  await network.removeSlot(heldSlotTeardown(identity, row, slot));
  if (row.slotEgress !== null) store.note(machineId, { slotEgress: null });
  parts.ledger.release({ kind: slotKind, key: slot, machineId });
}
