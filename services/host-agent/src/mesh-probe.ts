/**
 * One byte to each peer now and then, to a port at which nobody listens. It makes each session one that is used: a peer
 * that lives answers, by its kernel or by WireGuard itself, and a session that the peer has lost is made anew.
 */
import { createSocket, type Socket } from "node:dgram";

/** The discard service (RFC 863). */
const port = 9;

export class MeshProbe implements Disposable {
  #socket: Socket | undefined;

  send(addresses: readonly string[]): void {
    if (addresses.length === 0) return;
    this.#socket ??= createSocket("udp6").unref();
    this.#socket.removeAllListeners("error").on("error", () => undefined);
    // What cannot be sent now is what the counters will tell.
    for (const address of addresses) this.#socket.send("h", port, address, () => undefined);
  }

  [Symbol.dispose](): void {
    this.#socket?.close();
    this.#socket = undefined;
  }
}
