/**
 * Connections that come through a load balancer which says by the PROXY protocol whose they are. Which sources may say
 * so is the operator's setting; from these the header is required, as a client could otherwise write one itself through
 * a balancer that sends none. From all others nothing of the kind is read.
 */
import type { BlockList, Socket } from "node:net";
import { isIPv6 } from "node:net";
import type { IngressLimits } from "../limits.ts";
import { peerAddress, setProxied } from "./client-address.ts";
import { maxProxyHeaderBytes, readProxyHeader } from "./proxy-protocol.ts";

export const isTrusted = (trusted: BlockList, socket: Socket): boolean => {
  const address = peerAddress(socket);
  return address !== "" && trusted.check(address, isIPv6(address) ? "ipv6" : "ipv4");
};

/** Calls back when the header was read; what follows it is still to be read. Destroys what sends none. */
export function receiveProxied(socket: Socket, limits: IngressLimits, ready: () => void): void {
  let held = Buffer.alloc(0);
  const timer = setTimeout(() => socket.destroy(), limits.headersMs);
  const done = (): void => {
    clearTimeout(timer);
    socket.off("readable", read);
    socket.off("error", failed);
    socket.off("end", failed);
    socket.off("close", done);
  };
  const failed = (): void => {
    done();
    socket.destroy();
  };
  const read = (): void => {
    for (let chunk = socket.read(); chunk !== null; chunk = socket.read())
      held = Buffer.concat([held, chunk as Buffer]);
    const header = readProxyHeader(held);
    if (header.kind === "more" && held.length <= maxProxyHeaderBytes) return;
    if (header.kind !== "header") {
      failed();
      return;
    }
    done();
    if (header.connection !== undefined) setProxied(socket, header.connection);
    if (held.length > header.length) socket.unshift(held.subarray(header.length));
    ready();
  };
  socket.on("error", failed);
  socket.on("end", failed);
  socket.on("close", done);
  socket.on("readable", read);
}
