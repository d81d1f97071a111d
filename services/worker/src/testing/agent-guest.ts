/**
 * A simulated machine whose inside is real: the guest agent as a process of this host. It runs programs as
 * whoever runs the test and sets up no network, as it is not process 1.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { type Duplex, pipeline } from "node:stream";
import { type SimGuestFactory, SimVmm } from "@hearth/vmm";
import { endTree } from "./end-tree.ts";

const repository = join(import.meta.dirname, "../../../..");
export const agentProgram = join(
  repository,
  "guest-agent/target/x86_64-unknown-linux-musl/release/hearth-guest-agent",
);

/**
 * The simulated driver, with its channel as a socket, as real drivers have it. Over a stream that is none,
 * Node's HTTP/2 client sends the end of a short request apart from it, which the agent answers too early.
 */
export class SocketSimVmm extends SimVmm {
  override async channel(): Promise<Duplex> {
    const inner = await super.channel();
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    const accepted = new Promise<Socket>((resolve) => server.once("connection", resolve));
    const outer = connect(address.port, "127.0.0.1");
    const far = await accepted;
    server.close();
    pipeline(inner, far, () => inner.destroy());
    pipeline(far, inner, () => far.destroy());
    return outer;
  }
}

export interface AgentGuests {
  readonly guest: SimGuestFactory;
  /** Ends what is left. */
  stop(): void;
}

export function agentGuests(directory: string): AgentGuests {
  const agents = new Set<ChildProcess>();
  let count = 0;
  const guest: SimGuestFactory = (port) => {
    const path = join(directory, `agent-${++count}.sock`);
    const agent = spawn(agentProgram, ["--unix", path], { stdio: "ignore" });
    agents.add(agent);
    let socket: Socket | undefined;
    const waiting: Buffer[] = [];
    const dial = (): void => {
      const dialled = connect(path);
      dialled.once("connect", () => {
        socket = dialled;
        for (const bytes of waiting.splice(0)) dialled.write(bytes);
      });
      dialled.on("data", (bytes) => port.send(bytes));
      dialled.once("error", () => {
        if (agent.exitCode === null && agent.signalCode === null) setTimeout(dial, 2);
      });
      // The agent ends a conversation by closing; the machine's port stays, and the next one begins.
      dialled.once("close", () => {
        if (socket !== dialled) return;
        socket = undefined;
        if (agent.exitCode === null && agent.signalCode === null) setTimeout(dial, 2);
      });
    };
    agent.once("exit", () => {
      agents.delete(agent);
      port.powerOff();
    });
    dial();
    return {
      receive: (bytes) => {
        if (socket === undefined) waiting.push(bytes);
        else socket.write(bytes);
      },
      powerButton: () => end(agent),
      save: () => null,
    };
  };
  return {
    guest,
    stop: () => {
      for (const agent of agents) end(agent);
    },
  };
}

/** With all that it started: its programs lead sessions of their own. */
function end(agent: ChildProcess): void {
  if (agent.pid !== undefined) endTree(agent.pid);
}
