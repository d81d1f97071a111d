/** A machine whose service asks for HTTP/2. */
import type { startDoor } from "./door.ts";
import { machineId, webService } from "./facts.ts";

const h2Ports = [
  { port: 80, handlers: ["http"], http_options: { h2_backend: true } },
  { port: 443, handlers: ["tls", "http"], http_options: { h2_backend: true } },
];

export type Door = Awaited<ReturnType<typeof startDoor>>;

export function putHttp2Guest(door: Door, port: number, id = machineId(1)): void {
  door.put({ id, address: "127.0.0.1", services: [webService(port, { ports: h2Ports })] });
}
