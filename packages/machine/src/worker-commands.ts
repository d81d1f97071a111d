/**
 * The one surface of a worker: the commands that it takes over the bus, with the shape of each request.
 * A worker matches on the name exhaustively; what is not listed here no worker does.
 */
import { HearthError } from "@hearth/errors";
import Type from "typebox";
import Value from "typebox/value";
import { MachineConfigInput } from "./config-schema.ts";
import { EgressPolicyInput } from "./egress.ts";
import { PlacementReport } from "./placement.ts";
import { GuestPath } from "./worker-streams.ts";

const closed = { additionalProperties: false } as const;
const opt = Type.Optional;
const machineId = Type.String({ pattern: "^[0-9a-f]{14}$" });
const instanceId = Type.String({ pattern: "^[0-7][0-9A-HJKMNP-TV-Z]{25}$" });
const name = Type.String({ minLength: 1, maxLength: 63 });
const limitMs = Type.Integer({ minimum: 0 });
const signal = Type.Integer({ minimum: 1, maximum: 64 });

/** The machine, and the nonce of its lease where the caller holds one. */
const target = { machine_id: machineId, nonce: opt(Type.String()) };
const placementTerm = Type.Integer({ minimum: 1 });
const moving = { machine_id: machineId, placement_term: placementTerm };
const guest = Type.Object(
  { cpus: Type.Integer({ minimum: 1, maximum: 64 }), memory_mb: Type.Integer({ minimum: 64 }) },
  closed,
);

/** Longer than any caller takes from a reservation to its commit. */
export const maxReservationMs = 300_000;

export const workerCommands = {
  /**
   * Holds room for a machine for so long, by the worker's own clock; `commit` turns it into the machine. Answers a
   * ReserveAnswer. A second one for the same machine takes the place of the first.
   */
  reserve: Type.Object(
    { machine_id: machineId, guest, ttl_ms: Type.Integer({ minimum: 1, maximum: maxReservationMs }) },
    closed,
  ),
  commit: Type.Object(
    {
      machine_id: machineId,
      instance_id: instanceId,
      app: name,
      name,
      region: Type.String(),
      network: Type.Integer({ minimum: 1, maximum: 2 ** 32 - 1 }),
      config: MachineConfigInput,
      launch: Type.Boolean(),
      /** Of its app. */
      app_egress: opt(
        Type.Object({ policy: EgressPolicyInput, version: Type.Integer({ minimum: 1 }) }, closed),
      ),
      /** Of the reservation that this turns into a machine; one that comes from another node has a term instead. */
      fence: opt(Type.Integer({ minimum: 1 })),
      /** How this node was chosen; kept to explain it. */
      placement: opt(PlacementReport),
      lease_ttl_ms: opt(limitMs),
      /** A machine that comes from another node. */
      moved: opt(
        Type.Object(
          {
            placement_term: placementTerm,
            state: Type.Union([Type.Literal("created"), Type.Literal("stopped")]),
            cordoned: Type.Boolean(),
            created_ms: Type.Integer({ minimum: 0 }),
          },
          closed,
        ),
      ),
    },
    closed,
  ),
  /** Ends the machine here without changing what is wanted of it, and does not start it again. */
  yield: Type.Object(moving, closed),
  /** Takes a `yield` back. */
  keep: Type.Object(moving, closed),
  /** The machine is elsewhere: everything of it leaves this host. */
  forget: Type.Object(moving, closed),
  update: Type.Object(
    {
      ...target,
      instance_id: instanceId,
      config: MachineConfigInput,
      launch: Type.Boolean(),
      /** Refused as a conflict when the machine has another version by now. */
      current_version: opt(instanceId),
      lease_ttl_ms: opt(limitMs),
    },
    closed,
  ),
  start: Type.Object(target, closed),
  /**
   * Starts a machine that sleeps because a request came for it, where its owner lets requests do so. All that a node
   * may have another node's worker do: less than what anybody can who reaches a front door.
   */
  wake: Type.Object({ machine_id: machineId }, closed),
  /** Without `signal` and `timeout_ms` the machine's own stop_config counts. */
  stop: Type.Object({ ...target, signal: opt(signal), timeout_ms: opt(limitMs) }, closed),
  restart: Type.Object(
    { ...target, signal: opt(signal), timeout_ms: opt(limitMs), force: opt(Type.Boolean()) },
    closed,
  ),
  signal: Type.Object({ ...target, signal }, closed),
  destroy: Type.Object({ ...target, force: opt(Type.Boolean()) }, closed),
  get: Type.Object({ machine_id: machineId }, closed),
  /** By id; a page, as an answer has to fit into one message of the bus. The next one begins `after` its last. */
  list: Type.Object(
    {
      app: opt(name),
      include_destroyed: opt(Type.Boolean()),
      after: opt(machineId),
      limit: opt(Type.Integer({ minimum: 1, maximum: 50 })),
    },
    closed,
  ),
  events: Type.Object(
    { machine_id: machineId, limit: opt(Type.Integer({ minimum: 1, maximum: 50 })) },
    closed,
  ),
  versions: Type.Object({ machine_id: machineId }, closed),
  /** A value of null removes its key; keys that are not named stay. */
  "set-metadata": Type.Object(
    { ...target, metadata: Type.Record(Type.String(), Type.Union([Type.String(), Type.Null()])) },
    closed,
  ),
  /** Without `nonce` it is made; with that of the lease that the caller holds, it is extended. */
  "lease-acquire": Type.Object(
    {
      ...target,
      ttl_ms: Type.Integer({ minimum: 1 }),
      owner: opt(Type.String({ maxLength: 255 })),
      description: opt(Type.String({ maxLength: 1024 })),
    },
    closed,
  ),
  "lease-get": Type.Object({ machine_id: machineId }, closed),
  "lease-release": Type.Object(target, closed),
  cordon: Type.Object(target, closed),
  uncordon: Type.Object(target, closed),
  /** What was done for the machine, newest run first. */
  explain: Type.Object(
    { machine_id: machineId, limit: opt(Type.Integer({ minimum: 1, maximum: 20 })) },
    closed,
  ),
  /** Compares the worker's database with its host; answers an Inspection. */
  inspect: Type.Object({}, closed),
  ps: Type.Object({ machine_id: machineId }, closed),
  "file-list": Type.Object({ machine_id: machineId, path: GuestPath }, closed),
  "file-stat": Type.Object({ machine_id: machineId, path: GuestPath }, closed),
  "file-mkdir": Type.Object({ machine_id: machineId, path: GuestPath, parents: opt(Type.Boolean()) }, closed),
  "file-remove": Type.Object(
    { machine_id: machineId, path: GuestPath, recursive: opt(Type.Boolean()) },
    closed,
  ),
  "file-rename": Type.Object({ machine_id: machineId, path: GuestPath, to: GuestPath }, closed),
} as const;

export type WorkerCommandName = keyof typeof workerCommands;
export type WorkerRequest<Name extends WorkerCommandName> = Type.Static<(typeof workerCommands)[Name]>;
export type WorkerCommand = {
  readonly [Name in WorkerCommandName]: { readonly name: Name; readonly request: WorkerRequest<Name> };
}[WorkerCommandName];

export const workerCommandNames = Object.keys(workerCommands) as readonly WorkerCommandName[];

export const isWorkerCommandName = (text: string): text is WorkerCommandName =>
  Object.hasOwn(workerCommands, text);

/** @throws HearthError `not_implemented` for a name that is not listed, `invalid_argument` for another shape */
export function parseWorkerCommand(commandName: string, request: unknown): WorkerCommand {
  if (!isWorkerCommandName(commandName))
    throw new HearthError("not_implemented", { details: { command: commandName } });
  const schema: Type.TSchema = workerCommands[commandName];
  if (Value.Check(schema, request)) return { name: commandName, request } as WorkerCommand;
  const [problem] = Value.Errors(schema, request);
  const field = problem?.instancePath === "" ? "request" : (problem?.instancePath ?? "request");
  throw new HearthError("invalid_argument", {
    message: `${commandName}: ${field} ${problem?.message ?? "is not valid"}.`,
    details: { command: commandName, field },
  });
}
