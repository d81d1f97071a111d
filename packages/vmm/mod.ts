export {
  guarded,
  inNetns,
  type Vmm,
  type VmmDisk,
  type VmmExit,
  VmmExitReason,
  type VmmGuard,
  type VmmHandle,
  VmmKind,
  type VmmNic,
  type VmmRestoreOverrides,
  type VmmSpec,
  type VmmStats,
} from "./src/port.ts";
export type { Accelerator } from "./src/qemu/arguments.ts";
export { type KvmProbe, type ProbeKvmOptions, probeKvm } from "./src/qemu/probe-kvm.ts";
export { QemuVmm, type QemuVmmDeps } from "./src/qemu/qemu-vmm.ts";
export { SimHost, type SimHostDeps } from "./src/sim/sim-host.ts";
export type { SimGuest, SimGuestFactory, SimGuestPort } from "./src/sim/sim-machine.ts";
export { SimVmm } from "./src/sim/sim-vmm.ts";
