/** Sessions of exec and attach of the fake API: frames to and from a child process, with back-pressure. */
import { spawn } from "node:child_process";
import type { Server } from "node:http";
import { constants } from "node:os";
import type { Duplex, Readable, Writable } from "node:stream";
import { decodeExecFrame, type ExecStart, type ExecStatus, encodeExecFrame } from "@hearth/machine";
import { type WebSocket, WebSocketServer } from "ws";
import type { FakeMachine } from "./fake-machine.ts";

export interface FakeSessionsDeps {
  readonly server: Server;
  /** Undefined refuses the upgrade with what `refuse` says. */
  readonly find: (path: string, authorization: string | undefined) => FakeMachine | undefined;
  readonly refuse: (path: string, authorization: string | undefined) => { status: number; body: object };
  readonly onStart: (path: string, start: Partial<ExecStart>) => void;
  readonly onControl: (control: object) => void;
}

export function serveFakeSessions({
  server,
  find,
  refuse,
  onStart,
  onControl,
}: FakeSessionsDeps): Disposable {
  const sockets = new WebSocketServer({
    noServer: true,
    handleProtocols: (offered) => (offered.has("exec.hearth.v1") ? "exec.hearth.v1" : false),
  });
  server.on("upgrade", (request, socket: Duplex, head) => {
    const path = (request.url ?? "").split("?")[0] ?? "";
    const machine = find(path, request.headers.authorization);
    if (machine === undefined || !/\/(exec|attach)\/stream$/.test(path)) {
      const { status, body } = refuse(path, request.headers.authorization);
      const text = JSON.stringify(body);
      socket.end(
        `HTTP/1.1 ${status} Refused\r\ncontent-type: application/json\r\ncontent-length: ${text.length}\r\nconnection: close\r\n\r\n${text}`,
      );
      return;
    }
    sockets.handleUpgrade(request, socket, head, (peer) => {
      peer.on("error", () => undefined);
      peer.once("message", (text) => {
        const start = JSON.parse(String(text)) as Partial<ExecStart>;
        onStart(path, start);
        if (path.endsWith("/attach/stream")) void attach(peer, machine, onControl);
        else exec(peer, machine, start, onControl);
      });
    });
  });
  return {
    [Symbol.dispose]() {
      for (const peer of sockets.clients) peer.terminate();
    },
  };
}

function exec(
  peer: WebSocket,
  machine: FakeMachine,
  start: Partial<ExecStart>,
  onControl: (control: object) => void,
): void {
  const [program = "", ...words] = start.command ?? [];
  const child = spawn(program, words, {
    cwd: machine.directory,
    env: { PATH: process.env.PATH, ...start.env },
    detached: true,
  });
  child.stdin.on("error", () => undefined);
  if (start.stdin !== true) child.stdin.end();
  const end = (status: ExecStatus): void => {
    peer.send(encodeExecFrame({ channel: "status", status }));
    peer.close();
  };
  child.once("error", () =>
    end({
      kind: "failed",
      code: "entrypoint_not_found",
      message: `There is no program ${program}; check it.`,
    }),
  );
  peer.on("message", (data) => {
    const frame = decodeExecFrame(data as Buffer);
    if (frame.channel === "stdin") takeInput(peer, child.stdin, frame.data);
    else if (frame.channel === "close") child.stdin.end();
    else if (frame.channel === "control") {
      onControl(frame.control);
      if (frame.control.kind === "signal" && child.pid !== undefined)
        process.kill(-child.pid, frame.control.signal);
    }
  });
  peer.once("close", () => {
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null)
      process.kill(-child.pid, "SIGKILL");
  });
  const sent = [pump(peer, child.stdout, "stdout"), pump(peer, child.stderr, "stderr")];
  child.once("close", async (code, name) => {
    await Promise.all(sent);
    const exit_signal = name === null ? 0 : constants.signals[name];
    end({ kind: "exited", exit_code: code ?? 0, exit_signal });
  });
}

/** The program from its first output to its end, also when that is past. */
async function attach(
  peer: WebSocket,
  machine: FakeMachine,
  onControl: (control: object) => void,
): Promise<void> {
  peer.on("message", (data) => {
    const frame = decodeExecFrame(data as Buffer);
    if (frame.channel === "stdin" && machine.stdin) takeInput(peer, machine.stdin as Writable, frame.data);
    else if (frame.channel === "close") machine.stdin?.end();
    else if (frame.channel === "control") {
      onControl(frame.control);
      if (frame.control.kind === "signal") machine.kill(frame.control.signal);
    }
  });
  const changed = (): Promise<void> => new Promise((resolve) => machine.once("change", () => resolve()));
  const isOpen = (): boolean => peer.readyState === peer.OPEN;
  while (isOpen() && (machine.state === "created" || machine.state === "starting")) await changed();
  for (let next = 0; isOpen(); ) {
    // Asked before the output is looked at: what ends the program comes after all of its output.
    const { end } = machine;
    const entry = machine.output[next];
    if (entry !== undefined) {
      next += 1;
      const data = Buffer.from(entry.data, "base64");
      const channel = entry.stream === "stderr" ? "stderr" : "stdout";
      await new Promise<void>((resolve) => peer.send(encodeExecFrame({ channel, data }), () => resolve()));
    } else if (end !== undefined) {
      peer.send(encodeExecFrame({ channel: "status", status: end }));
      peer.close();
      return;
    } else await changed();
  }
}

function takeInput(peer: WebSocket, stdin: Writable, data: Uint8Array): void {
  if (stdin.destroyed || stdin.write(data)) return;
  peer.pause();
  const resume = (): void => {
    stdin.off("drain", resume).off("close", resume);
    peer.resume();
  };
  stdin.on("drain", resume).on("close", resume);
}

async function pump(peer: WebSocket, source: Readable, channel: "stdout" | "stderr"): Promise<void> {
  try {
    for await (const data of source as AsyncIterable<Buffer>) {
      await new Promise<void>((resolve) => peer.send(encodeExecFrame({ channel, data }), () => resolve()));
    }
    peer.send(encodeExecFrame({ channel: "close", closes: channel }), () => undefined);
  } catch {
    // The peer left, which ended the program.
  }
}
