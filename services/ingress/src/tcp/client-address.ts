/**
 * Whose a connection is: its peer, or whom a trusted load balancer has named. By the ends of the connection and not by
 * the object: what is made of a connection (TLS, a stream of HTTP/2) has the same ends.
 */
import type { Socket } from "node:net";
import type { EndOfConnection, ProxiedConnection } from "./proxy-protocol.ts";

export interface HasEnds {
  readonly remoteAddress?: string | undefined;
  readonly remotePort?: number | undefined;
  readonly localAddress?: string | undefined;
  readonly localPort?: number | undefined;
}

const named = new Map<string, ProxiedConnection>();
const keyOf = ({ remoteAddress, remotePort, localPort }: HasEnds): string =>
  `${remoteAddress} ${remotePort} ${localPort}`;

/** Until the connection closes. */
export function setProxied(socket: Socket, connection: ProxiedConnection): void {
  const key = keyOf(socket);
  named.set(key, connection);
  socket.once("close", () => named.delete(key));
}

const plain = (address = ""): string => (address.startsWith("::ffff:") ? address.slice(7) : address);

/** Who has connected here; IPv4 clients of a listener for both families come in a long form. */
export const peerAddress = (socket: HasEnds | null | undefined): string => plain(socket?.remoteAddress);

/** A client's address. */
export function clientAddress(socket: HasEnds | null | undefined): string {
  if (named.size > 0 && socket) {
    const connection = named.get(keyOf(socket));
    if (connection !== undefined) return plain(connection.source.address);
  }
  return peerAddress(socket);
}

/** Both ends as the client sees them. */
export function connectionOf(socket: HasEnds): ProxiedConnection {
  const end = (address: string | undefined, port: number | undefined): EndOfConnection => ({
    address: plain(address),
    port: port ?? 0,
  });
  return (
    named.get(keyOf(socket)) ?? {
      source: end(socket.remoteAddress, socket.remotePort),
      destination: end(socket.localAddress, socket.localPort),
    }
  );
}
