/** The worker of a node, as the API calls it: typed commands, and streams. */
import { type Bus, type BusStream, openStream } from "@hearth/cluster";
import type {
  MachineAnswer,
  WorkerCommandName,
  WorkerRequest,
  WorkerStreamName,
  WorkerStreamRequest,
} from "@hearth/machine";

const workerService = "worker";
export const commandLimitMs = 10_000;

type ChangingCommand =
  | "commit"
  | "yield"
  | "keep"
  | "update"
  | "start"
  | "stop"
  | "restart"
  | "destroy"
  | "set-metadata"
  | "cordon"
  | "uncordon";

export class WorkerClient {
  readonly #bus: () => Bus;

  /** `bus` throws `unavailable` while there is no connection. */
  constructor(bus: () => Bus) {
    this.#bus = bus;
  }

  async command<Name extends WorkerCommandName>(
    nodeId: string,
    name: Name,
    request: WorkerRequest<Name>,
    timeoutMs = commandLimitMs,
  ): Promise<unknown> {
    return this.#bus().request(nodeId, workerService, name, request, { timeoutMs });
  }

  async change<Name extends ChangingCommand>(
    nodeId: string,
    name: Name,
    request: WorkerRequest<Name>,
    timeoutMs = commandLimitMs,
  ): Promise<MachineAnswer> {
    return (await this.command(nodeId, name, request, timeoutMs)) as MachineAnswer;
  }

  async stream<Name extends WorkerStreamName>(
    nodeId: string,
    name: Name,
    request: WorkerStreamRequest<Name>,
  ): Promise<BusStream> {
    const target = { nodeId, service: workerService, command: name };
    return openStream(this.#bus(), target, request, { timeoutMs: commandLimitMs });
  }
}
