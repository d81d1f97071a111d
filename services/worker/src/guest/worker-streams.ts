/** The streams of a worker: exec, attach, logs and files of its machines. */
import type { BusStream, StreamHandler } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import {
  decodeExecFrame,
  type LogEntry,
  parseStreamRequest,
  type WorkerStreamName,
  type WorkerStreamRequest,
} from "@hearth/machine";
import type { LiveMachine } from "../machines/live-machine.ts";
import type { MachineLog } from "../machines/machine-log.ts";
import type { MachineRow } from "../machines/machine-row.ts";
import type { MachineStore } from "../machines/machine-store.ts";
import { relayExec, sendFrame } from "./exec-stream.ts";
import { readGuestFile, writeGuestFile } from "./file-streams.ts";

export interface WorkerStreamsDeps {
  readonly store: MachineStore;
  /** Throws vmm_not_running, machine_not_found. */
  readonly live: (machineId: string) => LiveMachine;
  readonly log: (machineId: string) => MachineLog;
  /** Resolves with the row once it is as `wanted` says; throws machine_not_found when it is gone. */
  readonly until: (
    machineId: string,
    wanted: (row: MachineRow) => boolean,
    signal: AbortSignal,
  ) => Promise<MachineRow>;
}

type Serve<Name extends WorkerStreamName> = (
  stream: BusStream,
  request: WorkerStreamRequest<Name>,
  /** Aborts when the caller has gone. */
  signal: AbortSignal,
) => Promise<void>;

export function workerStreamHandlers(deps: WorkerStreamsDeps): Record<WorkerStreamName, StreamHandler> {
  const served: { readonly [Name in WorkerStreamName]: Serve<Name> } = {
    exec: (stream, request, signal) => exec(deps, stream, request, signal),
    attach: (stream, request, signal) => attach(deps, stream, request, signal),
    logs: (stream, request, signal) => logs(deps, stream, request, signal),
    "file-read": (stream, { machine_id, path }, signal) =>
      deps.live(machine_id).call((client, limit) => readGuestFile(client, stream, path, limit), signal),
    "file-write": (stream, { machine_id, ...target }, signal) =>
      deps.live(machine_id).call((client, limit) => writeGuestFile(client, stream, target, limit), signal),
  };
  const handler =
    <Name extends WorkerStreamName>(name: Name): StreamHandler =>
    async (stream, payload) => {
      const left = new AbortController();
      void stream.closed.then((error) => left.abort(error ?? new HearthError("cancelled")));
      await served[name](stream, parseStreamRequest(name, payload), left.signal);
    };
  return {
    exec: handler("exec"),
    attach: handler("attach"),
    logs: handler("logs"),
    "file-read": handler("file-read"),
    "file-write": handler("file-write"),
  };
}

/** A program that cannot be started is an answer of the session, not a fault of the stream. */
const exec: (
  deps: WorkerStreamsDeps,
  stream: BusStream,
  request: WorkerStreamRequest<"exec">,
  signal: AbortSignal,
) => Promise<void> = async (deps, stream, request, signal) => {
  const live = deps.live(request.machine_id);
  const image = deps.store.get(request.machine_id).image?.config;
  const defaults = { user: image?.user ?? "", workdir: image?.workdir ?? "" };
  try {
    await live.call((client, limit) => relayExec(client, stream, request, defaults, limit), signal);
  } catch (thrown) {
    const error = HearthError.from(thrown);
    if (signal.aborted) throw error;
    const missing = error.code === "guest_path_not_found" || error.code === "entrypoint_not_found";
    const { code, message } = missing
      ? new HearthError("entrypoint_not_found", {
          message: `The machine has no program "${request.command[0]}" that can be run, or no such directory; check the command.`,
        })
      : error;
    await sendFrame(stream, { channel: "status", status: { kind: "failed", code, message } });
  }
};

/**
 * The program of the machine from its first output to its end, also when it ended before the caller came.
 */
async function attach(
  deps: WorkerStreamsDeps,
  stream: BusStream,
  { machine_id, stdin }: WorkerStreamRequest<"attach">,
  signal: AbortSignal,
): Promise<void> {
  if (stdin === true)
    throw new HearthError("not_implemented", {
      message:
        "The input of a machine's own program cannot be attached yet; use exec for a session with input.",
    });
  const row = await deps.until(machine_id, ({ state }) => !comingUp.has(state), signal);
  if (row.state === "failed" || row.boot === null) {
    const error = lastError(deps.store, machine_id);
    await sendFrame(stream, { channel: "status", status: { kind: "failed", ...error } });
    return;
  }
  const { boot } = row;
  void relaySignals(deps, stream, machine_id, signal);
  const ended = (): boolean =>
    deps.store.find(machine_id) === undefined || deps.store.exitOf(machine_id, boot) !== undefined;
  let next = 0;
  const options = { boot, follow: true, waitedFor: true, signal };
  for await (const entry of deps.log(machine_id).read(options, ended)) {
    if (entry.stream === "hearth" || entry.guest_seq === undefined) continue;
    const lost = entry.guest_seq - next;
    next = entry.guest_seq + 1;
    if (lost > 0) {
      // Output that is missing must not look like output that is whole.
      const text = `hearth: ${lost} pieces of output are lost here: they came faster than they were read.\n`;
      await sendFrame(stream, { channel: "stderr", data: Buffer.from(text) });
    }
    await sendFrame(stream, { channel: entry.stream, data: Buffer.from(entry.data, "base64") });
  }
  const exit = deps.store.exitOf(machine_id, boot);
  if (exit === undefined) throw new HearthError("machine_not_found");
  const status = { kind: "exited", exit_code: exit.exitCode, exit_signal: exit.signal } as const;
  await sendFrame(stream, { channel: "status", status });
}

const comingUp: ReadonlySet<MachineRow["state"]> = new Set(["created", "starting", "replacing"]);

function lastError(store: MachineStore, machineId: string): { code: string; message: string } {
  for (const { type, request } of store.events(machineId, 20))
    if (type === "failed" && request?.error !== undefined)
      return { code: request.error.code, message: request.error.message };
  const { code, message } = new HearthError("vmm_not_running");
  return { code, message };
}

async function relaySignals(
  { live }: WorkerStreamsDeps,
  stream: BusStream,
  machineId: string,
  signal: AbortSignal,
): Promise<void> {
  try {
    for (;;) {
      const message = await stream.read({ signal });
      if (message === undefined) return;
      const frame = decodeExecFrame(message);
      if (frame.channel !== "control" || frame.control.kind !== "signal") continue;
      const { signal: number } = frame.control;
      await live(machineId).call(
        (client, limit) => client.signal({ pid: 0, signal: number }, { signal: limit }),
        signal,
      );
    }
  } catch (error) {
    // A signal to what has just ended is late, not wrong; what is no frame ends the session.
    if (!signal.aborted && error instanceof HearthError && error.code === "invalid_argument")
      stream.fail(error);
  }
}

async function logs(
  { store, log }: WorkerStreamsDeps,
  stream: BusStream,
  { machine_id, follow = false, tail }: WorkerStreamRequest<"logs">,
  signal: AbortSignal,
): Promise<void> {
  store.get(machine_id);
  const options = { follow, signal, ...(tail === undefined ? {} : { tail }) };
  const ended = (): boolean => (store.find(machine_id)?.state ?? "destroyed") === "destroyed";
  for await (const { seq, timestamp, stream: from, data } of log(machine_id).read(options, ended)) {
    const entry: LogEntry = { seq, timestamp, stream: from, data };
    await stream.write(Buffer.from(JSON.stringify(entry)), { signal });
  }
}
