/**
 * Compares what the worker's database says with what the host has. Pure: rows, ledger and inventory in,
 * differences out. What a machine has while something is being done to it is marked as pending, because then the
 * host is ahead of the record or behind it, and rightly so.
 */
import { type Difference, type DifferenceKind, isSettled } from "@hearth/machine";
import type { SlotPlan } from "@hearth/network";
import type { HostInventory } from "./host-inventory.ts";
import type { HostPaths } from "./host-paths.ts";
import type { Resource } from "./ledger.ts";
import { keepsDisk } from "./machine-program.ts";
import type { MachineRow } from "./machine-row.ts";

export interface InspectionInput {
  readonly rows: readonly MachineRow[];
  readonly resources: readonly Resource[];
  readonly openRuns: ReadonlySet<string>;
  readonly reservations: readonly { readonly machineId: string; readonly expiresAtMs: number }[];
  readonly nowMs: number;
  readonly paths: HostPaths;
  readonly slotOf: (row: MachineRow) => SlotPlan;
  readonly host: HostInventory;
}

/** A reservation is forgotten when capacity is counted next, so an old one is only odd when nobody counts. */
const reservationGraceMs = 60_000;

export function inspectMachines(input: InspectionInput): Difference[] {
  const { rows, host, openRuns } = input;
  const byId = new Map<string, MachineRow>(rows.map((row) => [row.machineId, row]));
  const inFlight = (id: string | null): boolean => {
    const row = id === null ? undefined : byId.get(id);
    if (row === undefined) return false;
    return openRuns.has(row.machineId) || !(isSettled(row.state) || row.state === "created");
  };
  const found: Difference[] = [];
  const add = (
    kind: DifferenceKind,
    key: string,
    machineId: string | null,
    [problem, message]: readonly [Difference["problem"], string],
  ): void => {
    found.push({ kind, key, machine_id: machineId, problem, message, pending: inFlight(machineId) });
  };

  const held = heldBy(input);
  const taps = new Map(
    rows
      .filter((row) => held("tap", row.machineId).length > 0)
      .map((row) => [row.machineId, input.slotOf(row)]),
  );
  const ownerOfTap = new Map([...taps].map(([id, plan]) => [plan.tap.name, id as string]));

  compareProcesses(input, byId, add);
  compareGuards(input, held, add);
  /** Both directions of one kind: what should be there, and what is. */
  const compare = (
    kind: DifferenceKind,
    expected: ReadonlyMap<string, string>,
    actual: readonly string[],
  ): void => {
    const there = new Set(actual);
    for (const [key, id] of expected)
      if (!there.has(key))
        add(kind, key, id, ["missing", `The ${words(kind)} of a machine is not on the host.`]);
    for (const key of there)
      if (!expected.has(key))
        add(kind, key, ownerOfTap.get(key) ?? idIn(key, byId), [
          "unexpected",
          `There is a ${words(kind)} that no ledger has.`,
        ]);
  };
  const expectedOf = (keys: (plan: SlotPlan) => readonly string[]): Map<string, string> =>
    new Map([...taps].flatMap(([id, plan]) => keys(plan).map((key) => [key, id] as const)));

  compare(
    "tap",
    expectedOf(({ tap }) => [tap.name]),
    host.network.taps,
  );
  const elements = host.network.elements?.map(({ set, value }) => `${set} ${value}`);
  if (elements !== undefined || taps.size > 0)
    compare(
      "firewall-element",
      expectedOf((plan) =>
        plan.elements
          .filter(({ set }) => set !== "linked_networks")
          .map(({ set, value }) => `${set} ${value}`),
      ),
      elements ?? [],
    );
  compare(
    "route",
    expectedOf((plan) => plan.routes.map((route) => `${route} dev ${plan.tap.name}`)),
    host.network.routes,
  );
  compare("run-directory", idsHolding("vm"), host.runDirs);
  compare("disk", keysOf("scratch"), host.disks);
  for (const [kind, things] of [
    ["namespace", host.network.namespaces],
    ["cgroup", host.cgroups],
    ["mount", host.mounts],
    ["loop-device", host.loopDevices],
  ] as const)
    compare(kind, new Map(), things);
  for (const id of host.machineDirs)
    if (!byId.has(id))
      add("machine-directory", id, null, ["unexpected", "There is a directory of no machine."]);
  for (const path of host.sockets) {
    const id = path.slice(input.paths.runs.length + 1).split("/")[0] ?? "";
    if (held("vm", id).length === 0)
      add("socket", path, byId.has(id) ? id : null, [
        "unexpected",
        "A socket of no known VM is listened on.",
      ]);
  }
  compareRecords(input, held, add);
  return found;

  function keysOf(kind: string): Map<string, string> {
    return new Map(
      input.resources
        .filter((one) => one.kind === kind)
        .map(({ key, machineId }) => [key, machineId] as const),
    );
  }
  function idsHolding(kind: string): Map<string, string> {
    return new Map(
      input.resources
        .filter((one) => one.kind === kind)
        .map(({ machineId }) => [machineId, machineId] as const),
    );
  }
}

type Add = (
  kind: DifferenceKind,
  key: string,
  machineId: string | null,
  what: readonly [Difference["problem"], string],
) => void;

const words = (kind: DifferenceKind): string => kind.replaceAll("-", " ");

const idIn = (key: string, byId: ReadonlyMap<string, MachineRow>): string | null =>
  /[0-9a-f]{14}/.exec(key)?.find((id) => byId.has(id)) ?? null;

function heldBy({ resources }: InspectionInput): (kind: string, machineId: string) => readonly Resource[] {
  const byMachine = new Map<string, Resource[]>();
  for (const one of resources) byMachine.set(one.machineId, [...(byMachine.get(one.machineId) ?? []), one]);
  return (kind, machineId) => (byMachine.get(machineId) ?? []).filter((one) => one.kind === kind);
}

function compareProcesses(
  { rows, host }: InspectionInput,
  byId: ReadonlyMap<string, MachineRow>,
  add: Add,
): void {
  const running = new Set(host.processes.map(({ pid, startTime }) => `${pid}@${startTime}`));
  for (const { pid, startTime, machineId } of host.processes) {
    const handle = byId.get(machineId)?.handle;
    if (handle?.pid !== pid || handle.startTime !== startTime)
      add("process", String(pid), byId.has(machineId) ? machineId : null, [
        "unexpected",
        "A virtual machine runs that no record names.",
      ]);
  }
  for (const { machineId, handle } of rows)
    if (handle !== null && !running.has(`${handle.pid}@${handle.startTime}`))
      add("process", String(handle.pid), machineId, [
        "missing",
        "The virtual machine of the record does not run.",
      ]);
}

/** A guard has nothing to do but to end with its VMM, so one that is left over is as odd as one that is not there. */
function compareGuards(
  { rows, host }: InspectionInput,
  held: (kind: string, machineId: string) => readonly Resource[],
  add: Add,
): void {
  for (const { pid, machineId } of host.guards)
    if (held("guard", machineId).length === 0)
      add("guard", String(pid), rows.some((row) => row.machineId === machineId) ? machineId : null, [
        "unexpected",
        "A guard runs that no ledger has.",
      ]);
  for (const { machineId, handle } of rows)
    if (handle?.spec.guard !== undefined && !host.guards.some((one) => one.machineId === machineId))
      add("guard", machineId, machineId, ["missing", "The virtual machine of the record has no guard."]);
}

function compareRecords(
  input: InspectionInput,
  held: (kind: string, machineId: string) => readonly Resource[],
  add: Add,
): void {
  const { rows, resources, reservations, nowMs, openRuns } = input;
  const ids = new Set<string>(rows.map(({ machineId }) => machineId));
  for (const { kind, key, machineId } of resources)
    if (!ids.has(machineId))
      add("ledger", `${kind} ${key}`, null, [
        "inconsistent",
        `The ledger has a ${kind} of a machine that is not there.`,
      ]);
  const addresses = new Map<string, string>();
  for (const row of rows) {
    const wrong = (message: string): void =>
      add("record", row.machineId, row.machineId, ["inconsistent", message]);
    if (row.state === "started" && row.handle === null)
      wrong("The machine is started and has no virtual machine.");
    if (row.state === "destroyed" && openRuns.has(row.machineId))
      wrong("A destroyed machine has an open run.");
    if (isSettled(row.state) && row.state !== "started") {
      const kinds = ["vm", "guard", "tap", ...(row.state === "destroyed" ? ["image", "scratch"] : [])];
      if (!keepsDisk(row.config, false)) kinds.push("scratch");
      for (const kind of new Set(kinds))
        for (const { key } of held(kind, row.machineId))
          add("ledger", `${kind} ${key}`, row.machineId, [
            "inconsistent",
            `A machine that is ${row.state} holds a ${kind}.`,
          ]);
    }
    if (row.state === "destroyed") continue;
    for (const address of [
      `network ${row.network} machine ${row.machineNumber}`,
      `egress ${row.egressSlot}`,
    ]) {
      if (addresses.has(address))
        add("address", address, row.machineId, [
          "inconsistent",
          `The address is also that of ${addresses.get(address)}.`,
        ]);
      addresses.set(address, row.machineId);
    }
  }
  for (const { machineId, expiresAtMs } of reservations)
    if (expiresAtMs + reservationGraceMs < nowMs || ids.has(machineId))
      add("reservation", machineId, ids.has(machineId) ? machineId : null, [
        "inconsistent",
        ids.has(machineId)
          ? "A machine that is there is reserved for as well."
          : "A reservation is past its deadline.",
      ]);
}
