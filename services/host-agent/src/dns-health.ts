/** Whether the host's resolver answers at the address at which guests ask it. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import type { NodeConfig } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { parseClusterPrefix, resolverAddress } from "@hearth/network";

export const dnsPort = 53;

/** AAAA of ns.internal, the resolver's own name, with the id 0. */
const question = Buffer.from("\0\0\x01\0\0\x01\0\0\0\0\0\0\x02ns\x08internal\0\0\x1c\0\x01", "latin1");

/** @throws HearthError `unavailable` */
export async function checkDns({ prefix }: Pick<NodeConfig, "prefix">, limitMs: number): Promise<void> {
  const socket = createSocket("udp6");
  try {
    // Connected, so that it hears at once when nobody listens there.
    socket.connect(dnsPort, resolverAddress(parseClusterPrefix(prefix)));
    const signal = AbortSignal.timeout(limitMs);
    await once(socket, "connect", { signal });
    const answered = once(socket, "message", { signal });
    socket.send(question);
    await answered;
  } catch (cause) {
    throw new HearthError("unavailable", { message: "The resolver of this host does not answer.", cause });
  } finally {
    socket.close();
  }
}
