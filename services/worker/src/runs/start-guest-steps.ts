/** The steps of a start from the VM on: its launch, its agent, its settings, its program. */
import { mkdir, rm } from "node:fs/promises";
import { HearthError, type HearthErrorCode } from "@hearth/errors";
import type { NodeImage } from "@hearth/machine";
import { namespacePath, slotTap } from "@hearth/network";
import { endGuards, guardOf } from "../host/vm-guards.ts";
import { crashPoint } from "../journal/crash-point.ts";
import { programArgv, programEnv } from "../machines/machine-program.ts";
import { imageRef, privateAddress } from "../machines/machine-record.ts";
import type { MachineRow } from "../machines/machine-row.ts";
import { guestOf, heldSlot, type MachineStep, needLive, type RunParts } from "./run-parts.ts";
import { explainStartFailure } from "./start-failure.ts";

export function vmmStep(parts: RunParts): MachineStep {
  const { store, ledger, paths, live, config } = parts;
  return {
    name: "vmm",
    limitMs: parts.limits.vmmStartMs,
    maxAttempts: 2,
    inspect: async ({ machineId }, { runId, attempt }) => {
      if (attempt === 1) return false;
      return store.get(machineId).boot === runId && live.get(machineId)?.vmExit === undefined;
    },
    do: async ({ machineId }, { runId, signal }) => {
      const row = store.get(machineId);
      const runDir = paths.runDir(machineId);
      ledger.claim({ kind: "vm", key: runDir, machineId });
      const slot = heldSlot(parts, machineId);
      if (slot === undefined)
        throw new HearthError("internal", { message: "The machine has no network slot; start it again." });
      const guard = guardOf(parts, row);
      if (guard !== undefined) ledger.claim({ kind: "guard", key: runDir, machineId });
      await Promise.all([
        mkdir(runDir, { recursive: true, mode: 0o700 }),
        mkdir(paths.machine(machineId), { recursive: true, mode: 0o700 }),
      ]);
      // What an earlier boot said is no answer to why this one failed.
      await rm(paths.console(machineId), { force: true });
      if (live.get(machineId)?.vmExit !== undefined) await live.drop(machineId);
      signal.throwIfAborted();
      crashPoint("launch vm", "before");
      const handle = await live.make(machineId, runId).start({
        id: machineId,
        runDir,
        kernel: config.assets.kernel,
        initrd: config.assets.initrd,
        cmdline: (row.config.guest.kernel_args ?? row.config.init?.kernel_args ?? []).join(" "),
        cpus: row.config.guest.cpus,
        memoryMib: row.config.guest.memory_mb,
        disks: [
          { path: row.image?.rootfsPath ?? "", readOnly: true },
          { path: paths.scratch(machineId), readOnly: false },
        ],
        nics: [{ tap: slotTap, mac: guestOf(parts, row).mac }],
        netns: namespacePath(slot),
        consolePath: paths.console(machineId),
        ...(guard === undefined ? {} : { guard }),
      });
      crashPoint("launch vm", "after");
      // Given up meanwhile: whoever undoes this ends the VM, and the record must not name it again.
      signal.throwIfAborted();
      store.note(machineId, { handle, boot: runId });
      return { kind: "done" };
    },
    undo: async ({ machineId }) => await endVm(parts, machineId),
  };
}

/** Ends the VM if it runs, and leaves nothing of it but its console and its output. */
export async function endVm(parts: RunParts, machineId: string): Promise<void> {
  const { live, store, ledger, paths } = parts;
  await live.get(machineId)?.kill();
  await live.drop(machineId);
  crashPoint("end vm", "after");
  if (ledger.ofMachine(machineId).some(({ kind }) => kind === "guard"))
    await endGuards(paths.runs, machineId);
  const runDir = paths.runDir(machineId);
  await rm(runDir, { recursive: true, force: true });
  ledger.release({ kind: "guard", key: runDir, machineId });
  store.note(machineId, { handle: null });
  ledger.release({ kind: "vm", key: runDir, machineId });
}

export function guestReadyStep(parts: RunParts): MachineStep {
  return {
    name: "guest-ready",
    limitMs: parts.limits.bootMs + 5_000,
    maxAttempts: 3,
    inspect: async () => false,
    do: async ({ machineId }, { signal }) => {
      const live = needLive(parts, machineId);
      try {
        await live.guest(signal, parts.limits.bootMs);
        return { kind: "done" };
      } catch (thrown) {
        const { code } = HearthError.from(thrown);
        if (signal.aborted || (live.vmExit === undefined && code === "guest_channel_broken")) throw thrown;
        return explainStartFailure(parts, live.vmExit);
      }
    },
    undo: async () => undefined, // goes with the VM
  };
}

/** What the guest is told of itself, with the start of its program. */
function guestSettings(parts: RunParts, row: MachineRow, image: NodeImage) {
  const { identity, config } = parts;
  const guest = guestOf(parts, row);
  const place = {
    nodeId: config.node_id,
    privateIp: privateAddress(identity, row),
    imageRef: row.config.image,
  };
  const device = guest.mac;
  return {
    hostname: row.machineId,
    addresses: [guest.addressV6, guest.addressV4].map((cidr) => ({ device, cidr })),
    routes: [guest.gatewayV6, guest.gatewayV4].map((gateway) => ({ device, gateway })),
    nameservers: config.nameservers,
    env: programEnv(row, image, place),
    files: (row.config.files ?? []).map(({ guest_path, raw_value, mode }) => ({
      path: guest_path,
      content: Buffer.from(raw_value ?? "", "base64"),
      mode: mode ?? 0,
    })),
  };
}

export function processStartStep(parts: RunParts): MachineStep {
  const { store } = parts;
  return {
    name: "process-start",
    limitMs: parts.limits.processStartMs,
    maxAttempts: 3,
    inspect: async ({ machineId }, { attempt, signal }) => {
      if (attempt === 1) return false;
      return await needLive(parts, machineId).call(async (client, limit) => {
        for await (const { status } of client.waitMain({}, { signal: limit }))
          return status.case === "running" || status.case === "exited";
        return false;
      }, signal);
    },
    do: async ({ machineId }, { signal }) => {
      const row = store.get(machineId);
      const image = needImage(row.image);
      const argv = programArgv(row.config, image);
      const { user, workdir } = image.config;
      const live = needLive(parts, machineId);
      const configure = guestSettings(parts, row, image);
      const start = { argv, user, workdir, tty: row.config.init?.tty ?? false, configure };
      try {
        await live.call((client, limit) => client.startMain(start, { signal: limit }), signal);
      } catch (thrown) {
        const { code } = HearthError.from(thrown);
        if (code === "conflict") return { kind: "done" }; // it runs: an earlier call came through
        const reason = whyNotStarted(code, argv[0] ?? "", user, imageRef(row.config.image, image).repository);
        if (reason !== undefined) return { kind: "abort", ...reason, blame: "user" };
        throw thrown;
      }
      return { kind: "done" };
    },
    undo: async () => undefined,
  };
}

function needImage<T>(image: T | null): T {
  if (image === null) throw new HearthError("image_not_found");
  return image;
}

/** What the image or the command is at fault for, and no second try will mend. */
function whyNotStarted(code: HearthErrorCode, program: string, user: string, image: string) {
  switch (code) {
    case "guest_user_unknown":
      return { code, reason: `The image has no user or group "${user}"; check its USER.` };
    case "permission_denied":
      return {
        code: "entrypoint_not_found",
        reason: `"${program}" of ${image} may not be executed; check its mode and the image's USER.`,
      } as const;
    case "entrypoint_not_found":
    case "guest_path_not_found":
    case "internal":
      return {
        code: "entrypoint_not_found",
        reason: `${image} has no program "${program}" that can be run; check the command and the image.`,
      } as const;
    default:
      return undefined;
  }
}
