/**
 * Compares what the worker's database says with what the host has. Pure: rows, ledger and inventory in,
 * differences out. What a machine has while something is being done to it is marked as pending, because then the
 * host is ahead of the record or behind it, and rightly so.
 */
import { type Difference, type DifferenceKind, egressPolicyOf, isSettled } from "@hearth/machine";
import {
  heedsNames,
  nameSets,
  planTeardown,
  planUnclaimedTeardown,
  type SlotPlan,
  slotTap,
} from "@hearth/network";
import type { Resource } from "../journal/ledger.ts";
import { keepsDisk } from "../machines/machine-program.ts";
import type { MachineRow } from "../machines/machine-row.ts";
import { isEgressUnsure, wantedEgress } from "../slots/slot-identity.ts";
import { slotKind, slotOwners } from "../slots/slot-pool.ts";
import type { HostInventory } from "./host-inventory.ts";
import type { HostPaths } from "./host-paths.ts";

export interface InspectionInput {
  readonly nodeId: string;
  readonly rows: readonly MachineRow[];
  readonly resources: readonly Resource[];
  readonly openRuns: ReadonlySet<string>;
  readonly reservations: readonly { readonly machineId: string; readonly expiresAtMs: number }[];
  readonly nowMs: number;
  readonly paths: HostPaths;
  readonly slotPlan: (row: MachineRow, slot: string) => SlotPlan;
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
    const isMoving = openRuns.has(row.machineId) || isEgressUnsure(row);
    return isMoving || !(isSettled(row.state) || row.state === "created");
  };
  const found: Difference[] = [];
  const add = (
    kind: DifferenceKind,
    key: string,
    owner: string | null,
    [problem, message]: readonly [Difference["problem"], string],
  ): void => {
    const machine_id = owner === slotOwners.pool || owner === slotOwners.making ? null : owner;
    const pending = owner === slotOwners.making || inFlight(owner);
    found.push({ kind, key, machine_id, problem, message, pending });
  };

  const held = heldBy(input);
  const slots = expectedSlots(input, byId);

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
        add(kind, key, id, ["missing", `The ${words(kind)} of ${whose(id)} is not on the host.`]);
    for (const key of there)
      if (!expected.has(key))
        add(kind, key, slots.find(({ name }) => key.includes(name))?.owner ?? idIn(key, byId), [
          "unexpected",
          `There is a ${words(kind)} that no ledger has.`,
        ]);
  };
  const expectedOf = (keys: (slot: ExpectedSlot) => readonly string[]): Map<string, string> =>
    new Map(slots.flatMap((slot) => keys(slot).map((key) => [key, slot.owner] as const)));

  compare(
    "interface",
    expectedOf(({ name }) => [name]),
    host.network.interfaces,
  );
  compare(
    "namespace",
    expectedOf(({ name }) => [name]),
    host.network.namespaces.map(({ name }) => name),
  );
  compareNetworks(input, slots, add);
  const all = host.network.elements?.map(({ set, value }) => `${set} ${value}`);
  const elements = all?.filter((one) => !isOfName(one));
  compareNames(input, all?.filter(isOfName) ?? [], add);
  if (elements !== undefined || slots.length > 0)
    compare(
      "firewall-element",
      expectedOf(({ elements: of }) => of),
      elements ?? [],
    );
  compare(
    "route",
    expectedOf(({ routes }) => routes),
    host.network.routes,
  );
  compare("run-directory", idsHolding("vm"), host.runDirs);
  compare("disk", keysOf("scratch"), host.disks);
  for (const [kind, things] of [
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

interface ExpectedSlot {
  readonly name: string;
  readonly owner: string;
  readonly elements: readonly string[];
  readonly routes: readonly string[];
}

/** A slot that is being made may have any of its parts yet, so all of them are pending. */
function expectedSlots(
  { resources, slotPlan, nodeId }: InspectionInput,
  byId: ReadonlyMap<string, MachineRow>,
): ExpectedSlot[] {
  return resources
    .filter(({ kind }) => kind === slotKind)
    .map(({ key: name, machineId: owner }) => {
      const row = byId.get(owner);
      const { elements } =
        row === undefined ? planUnclaimedTeardown(nodeId, name) : planTeardown(slotPlan(row, name));
      const routes = row === undefined ? [] : slotPlan(row, name).routes;
      return {
        ...{ name, owner, elements: elements.map(({ set, value }) => `${set} ${value}`) },
        routes: routes.map((route) => `${route} dev ${name}`),
      };
    });
}

/** A VMM is where its slot is, and sees there the two ends of its wire. */
function compareNetworks({ rows, host }: InspectionInput, slots: readonly ExpectedSlot[], add: Add): void {
  for (const { machineId, handle } of rows) {
    const slot = slots.find(({ owner }) => owner === machineId);
    const seen = host.processes.find(
      ({ pid, startTime }) => pid === handle?.pid && startTime === handle.startTime,
    )?.network;
    if (slot === undefined || seen === undefined || handle?.spec.netns === undefined) continue;
    const namespace = host.network.namespaces.find(({ name }) => name === slot.name);
    if (namespace === undefined) continue; // said already
    if (seen.inode !== namespace.inode)
      add("namespace", slot.name, machineId, [
        "inconsistent",
        "The virtual machine does not run in its network namespace.",
      ]);
    else if (!seen.devices.includes(slotTap))
      add("tap", `${slot.name}/${slotTap}`, machineId, ["missing", "The tap of a machine is not there."]);
  }
}

const isOfName = (element: string): boolean => nameSets.some((set) => element.startsWith(`${set} `));

/** What the resolver has told comes and goes by itself; only for whom it may be there is known here. */
function compareNames({ rows, slotPlan }: InspectionInput, names: readonly string[], add: Add): void {
  if (names.length === 0) return;
  const byAddress = new Map(
    rows
      .filter(({ state }) => state !== "destroyed")
      .flatMap((row) => {
        const { addressV4, addressV6 } = slotPlan(row, "").guest;
        return [addressV4, addressV6].map((address) => [address.split("/")[0] ?? "", row] as const);
      }),
  );
  for (const name of names) {
    const row = byAddress.get(name.split(" ")[1] ?? "");
    const policy = row === undefined ? undefined : egressPolicyOf(wantedEgress(row), undefined);
    if (policy === undefined || !heedsNames(policy))
      add("firewall-element", name, row?.machineId ?? null, [
        "unexpected",
        "An address is open by its name to a machine that is allowed no names, or to none.",
      ]);
  }
}

const whose = (owner: string): string =>
  owner === slotOwners.pool || owner === slotOwners.making ? "an unclaimed slot" : "a machine";

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
  const unclaimed = new Set<string>(Object.values(slotOwners));
  for (const { kind, key, machineId } of resources)
    if (!ids.has(machineId) && !(kind === slotKind && unclaimed.has(machineId)))
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
      const kinds = ["vm", "guard", slotKind, ...(row.state === "destroyed" ? ["image", "scratch"] : [])];
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
