/**
 * Commands to a machine that exists: find its node in the replica, ask the worker, and wait until the own
 * replica has what the worker answered, so that whoever changed a machine reads the change.
 */
import type { BusStream } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import {
  type MachineAnswer,
  type MachineFact,
  type MachineRecord,
  parseStreamRequest,
  type WorkerRequest,
  type WorkerStreamName,
  type WorkerStreamRequest,
} from "@hearth/machine";
import type { ClusterView } from "../state/cluster-view.ts";
import { commandLimitMs, type WorkerClient } from "../state/worker-client.ts";

/** A reader that must see its own write waits this long at most; the worker has the truth in any case. */
const readYourWriteLimitMs = 2_000;
/** A node that has been silent for long is asked all the same, as it may be back; but not waited for. */
const silentLimitMs = 2_000;

type AskingCommand =
  | "signal"
  | "events"
  | "versions"
  | "ps"
  | "explain"
  | `lease-${"get" | "acquire" | "release"}`
  | `file-${"list" | "stat" | "mkdir" | "remove" | "rename"}`;
type TargetedCommand =
  | "update"
  | "start"
  | "stop"
  | "restart"
  | "destroy"
  | "set-metadata"
  | "cordon"
  | "uncordon";

export class MachineAccess {
  readonly #view: ClusterView;
  readonly #worker: WorkerClient;

  constructor(view: ClusterView, worker: WorkerClient) {
    this.#view = view;
    this.#worker = worker;
  }

  /** Answers what the worker has recorded; `nonce` is that of the caller's lease. */
  async change<Name extends TargetedCommand>(
    fact: MachineFact,
    name: Name,
    request: Omit<WorkerRequest<Name>, "machine_id" | "nonce">,
    nonce?: string,
  ): Promise<MachineRecord> {
    const target = { machine_id: fact.record.id, ...(nonce === undefined ? {} : { nonce }) };
    const full = { ...request, ...target } as WorkerRequest<Name>;
    const answer = await this.#worker
      .change(fact.node_id, name, full, this.#limitMs(fact))
      .catch(describeUnreachable(fact, this.#view.isNodeFresh(fact)));
    // Its fact was here before, so when it is gone the machine is gone.
    await this.#settle(answer, (seen) => seen === undefined || seen.revision >= answer.revision);
    return answer.record;
  }

  /** Waits until the replica has a machine that a worker has just accepted. */
  async settleNew(answer: MachineAnswer): Promise<MachineRecord> {
    await this.#settle(answer, (seen) => seen !== undefined && seen.revision >= answer.revision);
    return answer.record;
  }

  /** A replica that lags does not undo what the worker has accepted, so nothing is thrown at the limit. */
  async #settle(answer: MachineAnswer, holds: (seen: MachineFact | undefined) => boolean): Promise<void> {
    await untilMachine(this.#view, answer.record.id, holds, readYourWriteLimitMs);
  }

  async ask<Name extends AskingCommand>(
    fact: MachineFact,
    name: Name,
    request: Omit<WorkerRequest<Name>, "machine_id">,
  ): Promise<unknown> {
    const full = { ...request, machine_id: fact.record.id } as WorkerRequest<Name>;
    return this.#worker
      .command(fact.node_id, name, full, this.#limitMs(fact))
      .catch(describeUnreachable(fact, this.#view.isNodeFresh(fact)));
  }

  #limitMs(fact: MachineFact): number {
    return this.#view.isNodeFresh(fact) ? commandLimitMs : silentLimitMs;
  }

  async open<Name extends WorkerStreamName>(
    fact: MachineFact,
    name: Name,
    request: Omit<WorkerStreamRequest<Name>, "machine_id">,
  ): Promise<BusStream> {
    const full = parseStreamRequest(name, { ...request, machine_id: fact.record.id });
    return this.#worker.stream(fact.node_id, name, full).catch(describeUnreachable(fact));
  }
}

/** A bus that has nobody on a subject knows only that; the caller wants to know which host is silent. */
export function describeUnreachable(
  fact: Pick<MachineFact, "node_id">,
  isFresh = true,
): (thrown: unknown) => never {
  return (thrown) => {
    const error = HearthError.from(thrown);
    const isSilent = error.code === "unavailable" || (!isFresh && error.code === "deadline_exceeded");
    if (!isSilent) throw error;
    throw new HearthError("unavailable", {
      message: `Node ${fact.node_id}, which has this machine, does not answer; try again in a moment.`,
      details: { node_id: fact.node_id },
      cause: error,
    });
  };
}

/** Resolves with whether the machine satisfied the condition within the limit. */
export async function untilMachine(
  view: ClusterView,
  id: string,
  holds: (fact: MachineFact | undefined) => boolean,
  limitMs: number,
  signal?: AbortSignal,
): Promise<boolean> {
  if (holds(view.findMachine(id))) return true;
  return new Promise((resolve) => {
    const settle = (reached: boolean): void => {
      clearTimeout(timer);
      watching[Symbol.dispose]();
      signal?.removeEventListener("abort", aborted);
      resolve(reached);
    };
    const aborted = (): void => settle(false);
    const timer = setTimeout(() => settle(false), limitMs);
    const watching = view.watchMachine(id, (fact) => {
      if (holds(fact)) settle(true);
    });
    signal?.addEventListener("abort", aborted, { once: true });
    if (signal?.aborted) settle(false);
  });
}
