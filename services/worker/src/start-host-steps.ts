/** The steps of a start that make things on the host: image, scratch disk, network slot. */
import { access } from "node:fs/promises";
import { planTeardown } from "@hearth/network";
import { holdsImage, imageHolder, releaseImage } from "./image-hold.ts";
import { keepsDisk } from "./machine-program.ts";
import { type MachineStep, type RunParts, slotOf } from "./run-parts.ts";
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
  const { store, ledger, network } = parts;
  return {
    name: "network-slot",
    limitMs: parts.limits.networkSlotMs,
    maxAttempts: 3,
    inspect: async () => false, // applying what is applied is the look
    do: async ({ machineId }, { signal }) => {
      const plan = slotOf(parts, store.get(machineId));
      ledger.claim({ kind: "tap", key: plan.tap.name, machineId });
      await network.applySlot(plan, signal);
      return { kind: "done" };
    },
    undo: async ({ machineId }) => await releaseSlot(parts, machineId),
  };
}

export async function releaseSlot(parts: RunParts, machineId: string): Promise<void> {
  const plan = slotOf(parts, parts.store.get(machineId));
  const held = parts.ledger.ofMachine(machineId).some(({ kind }) => kind === "tap");
  if (!held) return;
  await parts.network.removeSlot(planTeardown(plan));
  parts.ledger.release({ kind: "tap", key: plan.tap.name, machineId });
}
