/**
 * Local forwarding (`ssh -L`): connections to ports of the machine that the client named, and to nothing else, so that
 * the gateway is no way into the host's network. They go to the machine's own address: what listens only on the
 * guest's loopback is not reached.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { pipeline } from "node:stream/promises";
import { HearthError } from "@hearth/errors";
import type { AppMachine } from "@hearth/sdk";
import type { ServerChannel, TcpipRequestInfo } from "ssh2";
import type { AuditEntry } from "./audit.ts";

const itself = new Set(["localhost", "127.0.0.1", "::1"]);

/** Whether a name or address of a client means the machine. */
export const meansMachine = (host: string, { id, name, private_ip }: AppMachine): boolean =>
  itself.has(host) || host === id || host === name || (private_ip !== "" && host === private_ip);

export interface ForwardRequest {
  readonly info: TcpipRequestInfo;
  readonly accept: () => ServerChannel;
  readonly reject: () => void;
  readonly findTarget: () => Promise<AppMachine>;
  readonly withinMs: number;
  readonly audit: AuditEntry;
  /** Aborted when the client is gone. */
  readonly signal: AbortSignal;
}

/** Resolves when the connection is over. Never rejects. */
export async function forward(request: ForwardRequest): Promise<void> {
  const { info, accept, reject, findTarget, audit, signal } = request;
  audit.add({ detail: `${info.destIP}:${info.destPort}` });
  let socket: Socket;
  try {
    const machine = await findTarget();
    audit.add({ app: machine.app_name, machine_id: machine.id });
    if (!meansMachine(info.destIP, machine))
      throw new HearthError("permission_denied", {
        message: `Only ports of the machine itself are forwarded; name localhost in place of ${info.destIP}.`,
      });
    audit.began();
    const limit = AbortSignal.any([signal, AbortSignal.timeout(request.withinMs)]);
    socket = await open(machine.private_ip, info.destPort, limit);
  } catch (thrown) {
    audit.end({ code: HearthError.from(thrown).code });
    return reject();
  }
  if (signal.aborted) {
    // A channel that is made now would never be told of the end.
    socket.destroy();
    return audit.end({ code: "cancelled" });
  }
  await join(accept(), socket, audit);
}

async function open(host: string, port: number, limit: AbortSignal): Promise<Socket> {
  const socket = connect({ host, port, allowHalfOpen: true });
  try {
    await once(socket, "connect", { signal: limit });
    return socket;
  } catch (cause) {
    socket.destroy();
    throw new HearthError("guest_unreachable", { message: "Nothing answers at the port.", cause });
  }
}

/** Each direction ends by itself, so that a half-closed connection goes on. */
async function join(channel: ServerChannel, socket: Socket, audit: AuditEntry): Promise<void> {
  socket.on("error", () => channel.destroy());
  channel.on("error", () => socket.destroy());
  channel.once("close", () => socket.destroy());
  await Promise.allSettled([pipeline(channel, socket), pipeline(socket, channel)]);
  audit.end({ bytes_in: socket.bytesWritten, bytes_out: socket.bytesRead });
}
