/** The operations of a machine as a drill runs them: what is there before, what is asked, what must come of it. */
import { randomBytes } from "node:crypto";
import { HearthError } from "@hearth/errors";
import { type MachineRecord, newInstanceId, newMachineId } from "@hearth/machine";
import { createBy } from "../testing/create-by.ts";
import { type DrillNode, eventually } from "./drill-node.ts";

export interface DrillMachine {
  readonly id: string;
  /** The version that a create or an update of this drill makes. */
  readonly instanceId: string;
  readonly config: object;
}

export interface Operation {
  readonly name: string;
  /** Brings the machine to where the operation begins. */
  before(node: DrillNode, machine: DrillMachine): Promise<void>;
  /** May be asked again when it was not answered. */
  ask(node: DrillNode, machine: DrillMachine): Promise<unknown>;
  /** Whether the machine is where the operation must bring it. */
  holds(record: MachineRecord, machine: DrillMachine): boolean;
  /** The VM of before must be the one of after. */
  readonly keepsVm?: boolean;
  /** What a machine of this operation is made of, beside its image. */
  readonly config?: object;
}

const settleMs = 60_000;
export const newVersion = (): string => newInstanceId(randomBytes, () => Date.now());

export const newDrillMachine = (config: object = {}): DrillMachine => ({
  id: newMachineId(randomBytes),
  instanceId: newVersion(),
  config: { image: "local/box:1", guest: { cpus: 1, memory_mb: 256 }, ...config },
});

const commit = (node: DrillNode, { id, instanceId, config }: DrillMachine, launch: boolean) =>
  createBy((name, request) => node.command(name, request), {
    ...{ machine_id: id, instance_id: instanceId, app: "drill", name: `m${id}`, region: "local" },
    ...{ network: 7, config, launch },
  });

export async function recordOf(node: DrillNode, id: string): Promise<MachineRecord | undefined> {
  node.assertStays();
  const answer = await node.command("get", { machine_id: id }).catch(() => undefined);
  return (answer as { record: MachineRecord } | undefined)?.record;
}

const reach = async (node: DrillNode, id: string, state: MachineRecord["state"]): Promise<void> => {
  await eventually(
    `${id} is ${state}`,
    async () => ((await recordOf(node, id))?.state === state ? true : undefined),
    settleMs,
  );
};

const created = async (): Promise<void> => undefined;
const started = async (node: DrillNode, machine: DrillMachine): Promise<void> => {
  await commit(node, { ...machine, instanceId: newVersion() }, true);
  await reach(node, machine.id, "started");
};
const stopped = async (node: DrillNode, machine: DrillMachine): Promise<void> => {
  await started(node, machine);
  await node.command("stop", { machine_id: machine.id });
  await reach(node, machine.id, "stopped");
};
const is =
  (state: MachineRecord["state"]) =>
  (record: MachineRecord): boolean =>
    record.state === state;
const target = ({ id }: DrillMachine) => ({ machine_id: id });
/** Doors may serve it, so that its end waits for them. */
const served = {
  services: [{ protocol: "tcp", internal_port: 8080, ports: [{ port: 80, handlers: ["http"] }] }],
};
const sh = (script: string) => ({ init: { exec: ["/bin/sh", "-c", script] } });

export const operations: readonly Operation[] = [
  {
    name: "create",
    before: created,
    ask: (node, machine) => commit(node, machine, true),
    holds: is("started"),
  },
  {
    name: "create-unlaunched",
    before: created,
    ask: (node, machine) => commit(node, machine, false),
    holds: is("created"),
  },
  {
    name: "start",
    before: stopped,
    ask: (node, machine) => node.command("start", target(machine)),
    holds: is("started"),
  },
  {
    name: "stop",
    before: started,
    config: served,
    ask: (node, machine) => node.command("stop", target(machine)),
    holds: is("stopped"),
  },
  {
    name: "restart",
    before: started,
    ask: (node, machine) => node.command("restart", target(machine)),
    // A restart that was done may be asked for twice; it ends the same way.
    holds: ({ state, events }) => state === "started" && events.some(({ type }) => type === "restart"),
  },
  {
    name: "update",
    before: started,
    config: served,
    ask: (node, machine) =>
      node.command("update", {
        ...target(machine),
        ...{ instance_id: machine.instanceId, config: machine.config, launch: true },
      }),
    holds: ({ state, instance_id }, machine) => state === "started" && instance_id === machine.instanceId,
  },
  {
    name: "update-of-egress",
    before: started,
    // Blocks that overlap those of the update, so that the one policy cannot be there beside the other.
    config: { network: { denyOut: ["all"], allowOut: ["192.0.2.0/24", "*.example.com"] } },
    ask: (node, machine) =>
      node.command("update", {
        ...target(machine),
        ...{ instance_id: machine.instanceId, launch: true },
        config: { ...machine.config, network: { denyOut: ["192.0.2.0/25", "udp:2001:db8::/32:1-1024"] } },
      }),
    holds: ({ state, instance_id }, machine) => state === "started" && instance_id === machine.instanceId,
  },
  {
    name: "rolled-back-update",
    before: started,
    ask: (node, machine) =>
      node
        .command("update", {
          ...target(machine),
          ...{ instance_id: machine.instanceId, launch: true },
          config: { ...machine.config, init: { exec: ["/no/such/program"] } },
        })
        // Asked for again after it went back, it says so, which is its answer.
        .catch((error: unknown) => {
          if (HearthError.from(error).code !== "update_rolled_back") throw error;
        }),
    holds: ({ state, instance_id, events }, machine) =>
      state === "started" &&
      instance_id !== machine.instanceId &&
      events.some(({ request }) => request?.rolled_back?.from === machine.instanceId),
  },
  {
    name: "destroy",
    before: stopped,
    ask: (node, machine) => node.command("destroy", target(machine)),
    holds: is("destroyed"),
  },
  {
    name: "force-destroy",
    before: started,
    config: served,
    ask: (node, machine) => node.command("destroy", { ...target(machine), force: true }),
    holds: is("destroyed"),
  },
  {
    name: "failed-start",
    before: created,
    config: { init: { exec: ["/no/such/program"] } },
    ask: (node, machine) => commit(node, machine, true),
    holds: ({ state, events }) =>
      state === "failed" && events[0]?.request?.error?.code === "entrypoint_not_found",
  },
  {
    name: "exit-and-destroy",
    before: created,
    config: { ...sh("exit 3"), auto_destroy: true, restart: { policy: "no" } },
    ask: (node, machine) => commit(node, machine, true),
    holds: is("destroyed"),
  },
  {
    // Nothing is asked of the machine: its worker is ended and another one takes over.
    name: "take-over",
    before: started,
    ask: async () => undefined,
    holds: is("started"),
    keepsVm: true,
  },
  {
    name: "reboot",
    before: started,
    // Only what is wanted brings it back: its policy would not.
    config: { restart: { policy: "no" } },
    ask: async () => undefined,
    holds: is("started"),
  },
];
