/**
 * The port of HTTPS, which all apps share by name. A connection whose name belongs to an app that ends TLS itself is
 * handed to it untouched; all others get TLS here. Names are read only while there is such an app.
 */
import type { Socket } from "node:net";
import { maxHelloBytes, readHelloName } from "./client-hello.ts";
import type { IngressLimits } from "./limits.ts";

export interface TlsDoorDeps {
  readonly limits: IngressLimits;
  readonly anyPassThrough: () => boolean;
  /** Whether the app of this name ends TLS itself. */
  readonly passesThrough: (name: string) => boolean;
  readonly relay: (socket: Socket, name: string) => void;
  readonly terminate: (socket: Socket) => void;
}

export function serveTlsDoor(socket: Socket, deps: TlsDoorDeps): void {
  if (!deps.anyPassThrough()) {
    deps.terminate(socket);
    return;
  }
  let held = Buffer.alloc(0);
  const timer = setTimeout(() => socket.destroy(), deps.limits.tlsHandshakeMs);
  const done = (): void => {
    clearTimeout(timer);
    socket.off("readable", read);
    socket.off("error", failed);
    socket.off("close", done);
  };
  const failed = (): void => {
    socket.destroy();
  };
  const read = (): void => {
    for (let chunk = socket.read(); chunk !== null; chunk = socket.read())
      held = Buffer.concat([held, chunk]);
    const found = readHelloName(held);
    if (found.kind === "more" && held.length <= maxHelloBytes) return;
    done();
    if (found.kind === "bad" || found.kind === "more") {
      socket.destroy();
      return;
    }
    socket.unshift(held);
    if (found.kind === "name" && deps.passesThrough(found.name)) deps.relay(socket, found.name);
    else deps.terminate(socket);
  };
  socket.on("error", failed);
  socket.on("close", done);
  socket.on("readable", read);
}
