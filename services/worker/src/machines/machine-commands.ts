/**
 * Requests for machines as changes of their records. Nothing here touches the host: a request is on disk when
 * it is answered, and the reconciler does the rest. What is so already is answered as it is, so that a caller
 * who never saw the first answer can ask again.
 */
import type { DatabaseSync } from "node:sqlite";
import { HearthError } from "@hearth/errors";
import {
  type AppEgress,
  checkLease,
  type InstanceId,
  type MachineAnswer,
  type MachineConfig,
  type MachineId,
  type MachineState,
  mayAutostart,
  nextState,
  parseMachineConfig,
  type ReserveAnswer,
  type WorkerRequest,
} from "@hearth/machine";
import { commitIntent } from "../journal/journal.ts";
import type { SlotNumbers } from "../slots/slot-numbers.ts";
import type { Admission } from "./admission.ts";
import { existing, MachineLeases, withNonce } from "./machine-leases.ts";
import { MachineMoves } from "./machine-moves.ts";
import { keepPlacement } from "./machine-placements.ts";
import { isElsewhere } from "./machine-rights.ts";
import type { MachineRow } from "./machine-row.ts";
import type { Change, MachineStore, NewEvent } from "./machine-store.ts";
import { refuseRolledBack, rollbackTarget } from "./update-rollback.ts";

export interface MachineCommandsDeps {
  readonly database: DatabaseSync;
  readonly store: MachineStore;
  readonly admission: Admission;
  readonly slots: SlotNumbers;
  readonly answer: (row: MachineRow) => MachineAnswer;
  /** The newest that is known of an app's default. @param told by whoever makes a machine of it */
  readonly appEgress: (app: string, told: AppEgress | undefined) => AppEgress | null;
  readonly nowMs: () => number;
  readonly newNonce: () => string;
}

type Target = { readonly machine_id: string; readonly nonce?: string };

const byUser = (type: NewEvent["type"]): NewEvent => ({ type, source: "user" });

/** Of two creates that come at once, each of the API's processes knows only its own. */
function refuseCompany(machines: readonly MachineRow[], { app, machine_id }: WorkerRequest<"commit">): void {
  const other = machines.find(
    (row) => row.app === app && row.machineId !== machine_id && row.state !== "destroyed",
  );
  if (other === undefined) return;
  throw new HearthError("insufficient_capacity", {
    message: `The node has the machine ${other.machineId} of the app ${app}, and this one asks for a node without; add a node or leave anti_affinity out.`,
    details: { app, machine_id: other.machineId },
  });
}

/** What a request may start, and what it need not. */
const asleep: ReadonlySet<MachineState> = new Set(["created", "stopped", "suspended"]);
const awake: ReadonlySet<MachineState> = new Set(["started", "starting", "replacing"]);

/** Without `force`, only a machine at rest is destroyed. */
const atRest: ReadonlySet<MachineState> = new Set(["created", "stopped", "suspended", "failed"]);

export class MachineCommands {
  readonly #deps: MachineCommandsDeps;
  readonly leases: MachineLeases;
  readonly moves: MachineMoves;

  constructor(deps: MachineCommandsDeps) {
    this.#deps = deps;
    const { store, nowMs, newNonce } = deps;
    this.moves = new MachineMoves({
      ...{ database: deps.database, store, answer: deps.answer },
      checkLease: (row) => checkLease(row.machineId, row.lease, undefined, nowMs()),
    });
    this.leases = new MachineLeases({
      store,
      nowMs,
      newNonce,
      check: (row, nonce) => this.#check(row, nonce),
    });
  }

  /** @throws HearthError `insufficient_capacity`; `conflict` for a machine that is there already */
  reserve({ machine_id, guest, ttl_ms }: WorkerRequest<"reserve">): ReserveAnswer {
    const { database, store, admission } = this.#deps;
    return commitIntent(database, () => {
      const known = store.find(machine_id);
      if (known !== undefined && known.state !== "destroyed")
        throw new HearthError("conflict", {
          message: "The machine is on this node already; nothing is reserved for it.",
          details: { machine_id, state: known.state },
        });
      const machines = store.all();
      admission.admit(machines, machine_id, guest);
      const fence = admission.reservations.hold(machine_id, guest, ttl_ms);
      const { cpus, memory_mb } = admission.free(machines);
      return { fence, ttl_ms, free_cpus: cpus, free_memory_mb: memory_mb };
    });
  }

  commit(request: WorkerRequest<"commit">): MachineAnswer {
    const { moved } = request;
    const { database, store, admission, slots, answer, nowMs } = this.#deps;
    const config = acceptable(parseMachineConfig(request.config));
    const row = commitIntent(database, () => {
      const known = store.find(request.machine_id);
      // A decision of the region is one commit, whatever was done to the machine since.
      if (known !== undefined && moved !== undefined && known.placement?.role === "here")
        if (known.placement.term === moved.placement_term) return known;
      if (moved !== undefined) this.moves.admit(known, request.machine_id, moved.placement_term);
      else if (known !== undefined) return sameInstance(known, request.instance_id);
      const machines = store.all();
      if (config.placement?.anti_affinity) refuseCompany(machines, request);
      // The term of its placement is the fence of a machine that comes from another node.
      if (moved === undefined) admission.reservations.use(request.machine_id, request.fence);
      else admission.reservations.drop(request.machine_id);
      if (request.launch) admission.admit(machines, request.machine_id, config.guest);
      const machineId = request.machine_id as MachineId;
      const instanceId = request.instance_id as InstanceId;
      const lease = this.leases.with({ machineId, lease: null }, instanceId, { ttlMs: request.lease_ttl_ms });
      const made: MachineRow = {
        machineId,
        instanceId,
        app: request.app,
        name: request.name,
        region: request.region,
        network: request.network,
        ...slots.next(machines, request.network),
        config,
        appEgress: this.#deps.appEgress(request.app, request.app_egress),
        slotEgress: null,
        desired: request.launch ? "started" : "stopped",
        state: request.launch ? nextState("created", "start") : (moved?.state ?? "created"),
        revision: 1,
        image: null,
        handle: null,
        boot: null,
        stop: null,
        exit: null,
        restarts: [],
        startAtMs: 0,
        startedMs: null,
        checks: null,
        turn: null,
        launch: request.launch,
        rollback: null,
        lease,
        cordoned: moved?.cordoned ?? false,
        placement: moved === undefined ? null : { term: moved.placement_term, role: "here" },
        createdMs: moved?.created_ms ?? nowMs(),
        updatedMs: nowMs(),
      };
      store.insert(made, [{ type: "launch", source: "flyd", status: "created" }]);
      if (request.placement !== undefined) keepPlacement(database, made.machineId, request.placement);
      return made;
    });
    store.published(row.machineId);
    return withNonce(answer(row), row, request.lease_ttl_ms);
  }

  update(request: WorkerRequest<"update">): MachineAnswer {
    const { store, admission, answer } = this.#deps;
    const config = acceptable(parseMachineConfig(request.config));
    const wish = { ttlMs: request.lease_ttl_ms, nonce: request.nonce };
    const row = this.#change(request, (known) => {
      if (known.instanceId === request.instance_id) return undefined;
      refuseRolledBack(known, request.instance_id);
      if (request.current_version !== undefined && request.current_version !== known.instanceId)
        throw new HearthError("conflict", {
          message: "The machine has another version by now; read it again and retry.",
          details: { current_version: known.instanceId },
        });
      const state = nextState(known.state, "replace");
      if (request.launch) admission.admit(store.all(), known.machineId, config.guest);
      const instanceId = request.instance_id as InstanceId;
      const desired = request.launch ? "started" : "stopped";
      const set = {
        instanceId,
        config,
        state,
        desired,
        launch: request.launch,
        rollback: rollbackTarget(known),
        image: null,
        stop: {},
      } as const;
      return {
        set: { ...set, restarts: [], startAtMs: 0, lease: this.leases.with(known, instanceId, wish) },
        events: [byUser("update")],
      };
    });
    return withNonce(answer(row), row, request.lease_ttl_ms);
  }

  start(request: WorkerRequest<"start">): MachineAnswer {
    return this.#deps.answer(this.#change(request, (known) => this.#begin(known, "user")));
  }

  /** @throws HearthError `conflict` for a machine that requests do not start */
  wake(request: WorkerRequest<"wake">): MachineAnswer {
    const row = this.#change(request, (known) => {
      if (awake.has(known.state)) return undefined;
      if (asleep.has(known.state) && mayAutostart(known.config) && !known.cordoned)
        return this.#begin(known, "flyd");
      throw new HearthError("conflict", {
        message: `The machine is ${known.state}, and a request does not start it; start it, or let its service autostart.`,
        details: { machine_id: known.machineId, state: known.state },
      });
    });
    return this.#deps.answer(row);
  }

  #begin(known: MachineRow, source: NewEvent["source"]): Change | undefined {
    const { store, admission } = this.#deps;
    if (known.state === "started") return undefined;
    // It is on its way; one that waits for its next attempt need not wait any more.
    if (known.state === "starting") return known.startAtMs === 0 ? undefined : { set: { startAtMs: 0 } };
    const state = nextState(known.state, "start");
    admission.admit(store.all(), known.machineId, known.config.guest);
    return {
      set: { state, desired: "started", restarts: [], startAtMs: 0, stop: null, exit: null },
      events: [{ type: "start", source }],
    };
  }

  stop(request: WorkerRequest<"stop">): MachineAnswer {
    const row = this.#change(request, (known) => {
      if (known.state === "stopped" || known.state === "stopping") {
        return known.desired === "started" ? { set: { desired: "stopped" } } : undefined;
      }
      const state = nextState(known.state, "stop");
      return {
        set: { state, desired: "stopped", stop: stopRequest(request) },
        events: [byUser("stop")],
      };
    });
    return this.#deps.answer(row);
  }

  restart(request: WorkerRequest<"restart">): MachineAnswer {
    const row = this.#change(request, (known) => {
      const state = nextState(known.state, "restart");
      // What is being started anyway begins anew without being ended first.
      if (known.state === "starting") return known.startAtMs === 0 ? undefined : { set: { startAtMs: 0 } };
      return {
        set: { state, desired: "started", restarts: [], startAtMs: 0, stop: stopRequest(request) },
        events: [byUser("restart")],
      };
    });
    return this.#deps.answer(row);
  }

  destroy(request: WorkerRequest<"destroy">): MachineAnswer {
    const row = this.#change(request, (known) => {
      if (known.state === "destroying" || known.state === "destroyed") return undefined;
      if (request.force !== true && !atRest.has(known.state))
        throw new HearthError("illegal_transition", {
          message: `The machine is ${known.state}; stop it first, or destroy it with force.`,
          details: { state: known.state, event: "destroy" },
        });
      return {
        set: { state: nextState(known.state, "destroy"), desired: "destroyed" },
        events: [byUser("destroy")],
      };
    });
    return this.#deps.answer(row);
  }

  setMetadata(request: WorkerRequest<"set-metadata">): MachineAnswer {
    const row = this.#change(request, (known) => {
      const metadata = { ...known.config.metadata };
      for (const [key, value] of Object.entries(request.metadata)) {
        if (value === null) delete metadata[key];
        else metadata[key] = value;
      }
      return { set: { config: { ...known.config, metadata } } };
    });
    return this.#deps.answer(row);
  }

  /** It runs on; what sends traffic to machines is to pass it over. */
  cordon(request: WorkerRequest<"cordon">, cordoned: boolean): MachineAnswer {
    const row = this.#change(request, (known) =>
      existing(known).cordoned === cordoned ? undefined : { set: { cordoned } },
    );
    return this.#deps.answer(row);
  }

  /** @throws HearthError `machine_not_found`, `lease_held` for a lease that the caller does not hold */
  checkLease({ machine_id, nonce }: Target): MachineRow {
    return this.#check(this.#deps.store.get(machine_id), nonce);
  }

  #check(row: MachineRow, nonce: string | undefined): MachineRow {
    checkLease(row.machineId, row.lease, nonce, this.#deps.nowMs());
    return row;
  }

  #change(target: Target, decide: (row: MachineRow) => Change | undefined): MachineRow {
    return this.#deps.store.change(target.machine_id, () => {
      const row = this.checkLease(target);
      if (!isElsewhere(row) || row.state === "destroyed") return decide(row);
      throw new HearthError("conflict", {
        message: "The machine is being moved to another node; try again in a moment.",
        details: { machine_id: row.machineId },
      });
    });
  }
}

function stopRequest(request: WorkerRequest<"stop"> & { readonly force?: boolean }) {
  return {
    ...(request.signal === undefined ? {} : { signal: request.signal }),
    ...(request.timeout_ms === undefined ? {} : { timeoutMs: request.timeout_ms }),
    ...(request.force === true ? { force: true } : {}),
  };
}

function sameInstance(known: MachineRow, instanceId: string): MachineRow {
  if (known.instanceId === instanceId) return known;
  throw new HearthError("conflict", {
    message: "There is a machine of this id already; use another id.",
    details: { machine_id: known.machineId },
  });
}

/** What the schema accepts and this worker would have to leave out of a machine that relies on it. */
function acceptable(config: MachineConfig): MachineConfig {
  for (const [index, file] of (config.files ?? []).entries())
    if (file.raw_value === undefined)
      throw new HearthError("not_implemented", {
        message: `files[${index}] takes its content from a secret or another place, which this version does not do yet; use raw_value.`,
        details: { field: `files[${index}]` },
      });
  return config;
}
