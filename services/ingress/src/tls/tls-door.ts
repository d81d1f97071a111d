/**
 * The port of HTTPS, which all apps share by name. The name that a client says is read before anything is answered: a
 * connection for an app that ends TLS itself is handed to it untouched, one of an authority is shown its proof, and who
 * names nobody's name, or one without a certificate, is told so by an alert. All others get TLS here.
 */
import type { Socket } from "node:net";
import type { IngressLimits } from "../limits.ts";
import { maxHelloBytes, readHelloName } from "./client-hello.ts";
import { alertTo, type TlsAlert } from "./tls-alert.ts";

export interface TlsDoorDeps {
  readonly limits: IngressLimits;
  /** What to tell who says this name; undefined when it has a certificate. */
  readonly alertFor: (name: string) => TlsAlert | undefined;
  /** Whether the app of this name ends TLS itself. */
  readonly passesThrough: (name: string) => boolean;
  readonly relay: (socket: Socket, name: string) => void;
  readonly prove: (socket: Socket, name: string) => void;
  readonly terminate: (socket: Socket) => void;
}

export function serveTlsDoor(socket: Socket, deps: TlsDoorDeps): void {
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
    if (found.kind === "name") serveName(socket, found, deps);
    else deps.terminate(socket);
  };
  socket.on("error", failed);
  socket.on("close", done);
  socket.on("readable", read);
}

function serveName(
  socket: Socket,
  { name, asksProof }: { readonly name: string; readonly asksProof: boolean },
  { limits, ...deps }: TlsDoorDeps,
): void {
  // The proof comes first: it is the region that has the name's certificate issued, also for an app that ends TLS itself.
  if (asksProof) {
    deps.prove(socket, name);
    return;
  }
  if (deps.passesThrough(name)) {
    deps.relay(socket, name);
    return;
  }
  const alert = deps.alertFor(name);
  if (alert === undefined) deps.terminate(socket);
  else alertTo(socket, alert, limits.lingerMs);
}
