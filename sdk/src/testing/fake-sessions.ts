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
        if (path.endsWith("/attach/stream")) attach(peer, machine);
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

function attach(peer: WebSocket, machine: FakeMachine): void {
  peer.on("message", (data) => {
    const frame = decodeExecFrame(data as Buffer);
    if (frame.channel === "stdin") machine.stdin?.write(frame.data);
    else if (frame.channel === "close") machine.stdin?.end();
  });
  machine.on("change", () => {
    if (machine.state === "stopped" || machine.state === "destroyed") peer.close();
  });
}

function takeInput(peer: WebSocket, stdin: Writable, data: Uint8Array): void {
  if (stdin.destroyed || stdin.write(data)) return;
  peer.pause();
  stdin.once("drain", () => peer.resume());
  stdin.once("close", () => peer.resume());
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
