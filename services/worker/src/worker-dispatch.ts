/** The one place where a command of a worker becomes a call: every name, exhaustively. */
import type { Inspection, MachineAnswer, MachineRun, PlacementReport, WorkerCommand } from "@hearth/machine";
import type { GuestCommands } from "./guest/guest-commands.ts";
import type { MachineCommands } from "./machines/machine-commands.ts";
import type { MachineRow } from "./machines/machine-row.ts";
import type { MachineStore } from "./machines/machine-store.ts";

export interface DispatchDeps {
  readonly commands: MachineCommands;
  readonly guests: GuestCommands;
  readonly store: MachineStore;
  readonly answer: (row: MachineRow) => MachineAnswer;
  readonly explain: (machineId: string, limit: number) => readonly MachineRun[];
  readonly placementOf: (machineId: string) => PlacementReport | undefined;
  readonly inspect: () => Promise<Inspection>;
}

const answeredEvents = 20;
const listedMachines = 50;
const listedBytes = 512 * 1024;
const explainedRuns = 10;

export async function dispatch(
  { commands, guests, store, answer, explain, placementOf, inspect }: DispatchDeps,
  command: WorkerCommand,
  signal: AbortSignal,
): Promise<unknown> {
  switch (command.name) {
    case "reserve":
      return commands.reserve(command.request);
    case "commit":
      return commands.commit(command.request);
    case "yield":
      return commands.moves.yield(command.request);
    case "keep":
      return commands.moves.keep(command.request);
    case "forget":
      return commands.moves.forget(command.request);
    case "update":
      return commands.update(command.request);
    case "start":
      return commands.start(command.request);
    case "wake":
      return commands.wake(command.request);
    case "stop":
      return commands.stop(command.request);
    case "restart":
      return commands.restart(command.request);
    case "destroy":
      return commands.destroy(command.request);
    case "set-metadata":
      return commands.setMetadata(command.request);
    case "lease-get":
      return commands.leases.find(command.request);
    case "lease-acquire":
      return commands.leases.acquire(command.request);
    case "lease-release":
      return commands.leases.release(command.request);
    case "cordon":
    case "uncordon":
      return commands.cordon(command.request, command.name === "cordon");
    case "signal":
      commands.checkLease(command.request);
      return await guests.signal(command.request, signal);
    case "get":
      return answer(store.get(command.request.machine_id));
    case "list": {
      const { app, include_destroyed = false, after = "", limit = listedMachines } = command.request;
      const rows = store.page(after, limit, { app, includeDestroyed: include_destroyed });
      return fitting(rows.map((row) => answer(row).record));
    }
    case "events": {
      const { machine_id, limit = answeredEvents } = command.request;
      store.get(machine_id);
      return store.events(machine_id, limit);
    }
    case "versions":
      store.get(command.request.machine_id);
      return store.versions(command.request.machine_id);
    case "explain": {
      const { machine_id, limit = explainedRuns } = command.request;
      const { state } = store.get(machine_id);
      const placement = placementOf(machine_id);
      return {
        ...{ machine_id, state, runs: explain(machine_id, limit) },
        ...(placement === undefined ? {} : { placement }),
      };
    }
    case "inspect":
      return await inspect();
    case "ps":
      return await guests.ps(command.request, signal);
    case "file-list":
      return await guests.list(command.request, signal);
    case "file-stat":
      return await guests.stat(command.request, signal);
    case "file-mkdir":
      return await guests.mkdir(command.request, signal);
    case "file-remove":
      return await guests.remove(command.request, signal);
    case "file-rename":
      return await guests.rename(command.request, signal);
  }
}

/** As many as one message of the bus carries with ease, and at least one. */
function fitting<T>(records: readonly T[]): T[] {
  let bytes = 0;
  return records.filter((record, index) => {
    bytes += Buffer.byteLength(JSON.stringify(record));
    return index === 0 || bytes <= listedBytes;
  });
}
