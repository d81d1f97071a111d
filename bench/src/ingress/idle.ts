/** Ten thousand clients that have asked once and keep their connection. */
import { connect, type Socket } from "node:net";
import { residentMb } from "./clients.ts";
import { listenHost } from "./peers.ts";

const clients = 10_000;
const atOnce = 100;
/** The front door takes 2,000 connections of one address. */
const addresses = 8;
const limitMs = 15_000;

/** Resident memory of the processes with all connections open, in MB of 1,000,000 bytes. */
export async function idleMemory(port: number, host: string, pids: () => readonly number[]): Promise<number> {
  const open: Socket[] = [];
  let closed = 0;
  const ask = (number: number): Promise<void> =>
    new Promise((resolve, reject) => {
      const localAddress = `127.0.0.${2 + (number % addresses)}`;
      const socket = connect({ port, host: listenHost, localAddress });
      open.push(socket);
      socket.setTimeout(limitMs, () => reject(new Error("a client was not answered")));
      socket.on("error", reject);
      socket.on("close", () => {
        closed += 1;
      });
      socket.once("data", () => {
        socket.setTimeout(0);
        resolve();
      });
      socket.write(`GET /small HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    });
  try {
    for (let at = 0; at < clients; at += atOnce)
      await Promise.all(Array.from({ length: atOnce }, (_, more) => ask(at + more)));
    if (closed > 0) throw new Error(`${closed} of ${clients} connections were closed`);
    return residentMb(pids());
  } finally {
    for (const socket of open) socket.destroy();
  }
}
