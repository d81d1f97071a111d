/** Guests that are raw TCP, so that they can say what no server of a library would. */
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import type { startDoor } from "./door.ts";
import { webService } from "./facts.ts";

/** A machine of the door's app whose connections a test answers; the last one counts. */
export async function rawGuest(
  door: Pick<Awaited<ReturnType<typeof startDoor>>, "put">,
  take: (socket: Socket) => void,
): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, take).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  door.put({ address: "127.0.0.1", services: [webService(port)] });
  return server;
}

/**
 * A guest that answers each request without a body by what the test says; it counts its connections.
 * @param answer what to write; undefined closes the connection
 */
export async function scriptedGuest(
  door: Pick<Awaited<ReturnType<typeof startDoor>>, "put">,
  answer: (
    head: string,
    nth: { readonly request: number; readonly connection: number },
  ) => string | undefined,
) {
  const heads: string[] = [];
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = await rawGuest(door, (socket) => {
    connections += 1;
    const connection = connections;
    let request = 0;
    let held = "";
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.once("close", () => sockets.delete(socket));
    socket.on("end", () => socket.end());
    socket.on("data", (bytes) => {
      held += bytes.toString("latin1");
      for (let end = held.indexOf("\r\n\r\n"); end >= 0; end = held.indexOf("\r\n\r\n")) {
        const head = held.slice(0, end + 4);
        held = held.slice(end + 4);
        heads.push(head);
        request += 1;
        const text = answer(head, { request, connection });
        if (text === undefined) socket.destroy();
        else socket.write(text, "latin1");
      }
    });
  });
  return {
    heads,
    server,
    get connections() {
      return connections;
    },
    get open() {
      return sockets.size;
    },
    /** Resets all connections, and takes new ones. */
    cut(): void {
      for (const socket of sockets) socket.resetAndDestroy();
    },
    [Symbol.dispose](): void {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
