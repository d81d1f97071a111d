/** A row for tests of pure functions. */
import type { InstanceId, MachineId } from "@hearth/machine";
import type { MachineRow } from "../machine-row.ts";

export const machineRow = (changes: Partial<MachineRow> = {}): MachineRow => ({
  machineId: "00000000000001" as MachineId,
  instanceId: "01JD0000000000000000000000" as InstanceId,
  app: "web",
  name: "one",
  region: "local",
  network: 7,
  machineNumber: 1,
  egressSlot: 1,
  config: { image: "local/box:1", guest: { cpu_kind: "shared", cpus: 1, memory_mb: 256 } },
  desired: "started",
  state: "started",
  revision: 1,
  image: null,
  handle: null,
  boot: "b1",
  stop: null,
  exit: null,
  restarts: [],
  startAtMs: 0,
  startedMs: null,
  checks: null,
  turn: null,
  launch: true,
  lease: null,
  createdMs: 1_700_000_000_000,
  updatedMs: 1_700_000_000_000,
  ...changes,
});
