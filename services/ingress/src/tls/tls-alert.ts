/**
 * What a client is told before there is TLS with it: an alert in the clear, which is all that can be said there (RFC 8446
 * 6). It names nobody; which one it is, is the answer.
 */
import type { Socket } from "node:net";

export const tlsAlerts = {
  /** Nothing is served by this name. */
  unrecognized_name: 112,
  /** The name is served, and has no certificate (yet). */
  certificate_unobtainable: 111,
  /** An authority asks for a proof that is not there. */
  no_application_protocol: 120,
} as const;
export type TlsAlert = keyof typeof tlsAlerts;

const fatal = 2;

export function alertTo(socket: Socket, alert: TlsAlert, lingerMs: number): void {
  socket.on("error", () => socket.destroy());
  const timer = setTimeout(() => socket.destroy(), lingerMs);
  socket.once("close", () => clearTimeout(timer));
  // What it has sent is read, as a reset could overtake the alert.
  socket.resume();
  socket.end(Buffer.from([0x15, 3, 3, 0, 2, fatal, tlsAlerts[alert]]));
}
