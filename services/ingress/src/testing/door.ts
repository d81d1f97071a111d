/** A front door and guests (servers of this process) for the tests of this service. */
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { OtherLoads } from "../choosing/other-loads.ts";
import { blockListOf } from "../config.ts";
import { Ingress } from "../ingress.ts";
import { defaultLimits, type IngressLimits } from "../limits.ts";
import type { AccessEvent } from "../telemetry/access-log.ts";
import { type KeyAndCertificate, LocalCa } from "../tls/local-ca.ts";
import { type FactWish, memoryReplica, webService } from "./facts.ts";

export const testDomain = "example.test";
/** A port at which nothing listens for long: it was given by the kernel, and given back. */
export async function closedPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

export interface DoorOptions {
  readonly issue?: (names: readonly string[]) => Promise<KeyAndCertificate>;
  readonly limits?: Partial<IngressLimits>;
  readonly proxiedFrom?: readonly string[];
  readonly openKey?: (purpose: string, sealed: string) => string | undefined;
  readonly startMachine?: (id: string, nodeId: string) => Promise<void>;
  readonly stopMachine?: (id: string) => Promise<void>;
  readonly tellUsed?: (nodeId: string, machineIds: readonly string[]) => Promise<void>;
  readonly otherLoads?: OtherLoads;
}

export async function startDoor(options: DoorOptions = {}) {
  const memory = memoryReplica();
  const directory = mkdtempSync(join(tmpdir(), "hearth-door-"));
  const authority = new LocalCa(directory);
  const issue = options.issue ?? ((names: readonly string[]) => authority.issue(names));
  const events: AccessEvent[] = [];
  const logged = new Set<() => void>();
  const ingress = new Ingress({
    replica: memory.replica,
    nodeId: "n1",
    domain: testDomain,
    ...(options.proxiedFrom === undefined ? {} : { proxiedFrom: blockListOf(options.proxiedFrom) }),
    limits: { ...defaultLimits, drainMs: 200, settleMs: 0, ...options.limits },
    accessLog: (event) => {
      events.push(event);
      for (const tell of logged) tell();
    },
    log: () => undefined,
    issue: (names) => issue(names),
    ...(options.openKey === undefined ? {} : { openKey: options.openKey }),
    startMachine: async ({ id, nodeId }) => await options.startMachine?.(id, nodeId),
    stopMachine: options.stopMachine ?? (() => Promise.resolve()),
    tellUsed: options.tellUsed ?? (() => Promise.resolve()),
    ...(options.otherLoads === undefined ? {} : { otherLoads: options.otherLoads }),
  });
  const { http: port, https } = await ingress.start({ host: "127.0.0.1", http: 0, https: 0 });
  const guests = new Set<Server>();
  return {
    ...memory,
    ingress,
    port,
    https,
    /** PEM of who signs. */
    authority: () => authority.certificate(),
    events,
    /** Resolves with the first event that is logged, or was, and is meant. */
    async event(meant: (event: AccessEvent) => boolean): Promise<AccessEvent> {
      for (;;) {
        const found = events.find(meant);
        if (found !== undefined) return found;
        await new Promise<void>((resolve) => logged.add(resolve));
      }
    },
    /** A machine that is served by this listener; the last wish counts. */
    async guest(listener: RequestListener, wish: FactWish & { readonly service?: object } = {}) {
      const server = createServer(listener).listen(0, wish.address ?? "127.0.0.1");
      guests.add(server);
      await once(server, "listening");
      const { port: internal } = server.address() as AddressInfo;
      const { service, ...fact } = wish;
      memory.put({ address: "127.0.0.1", services: [webService(internal, service)], ...fact });
      return { server, internal };
    },
    async [Symbol.asyncDispose](): Promise<void> {
      await ingress.stop();
      for (const guest of guests) {
        guest.closeAllConnections();
        guest.close();
      }
      rmSync(directory, { recursive: true });
    },
  };
}

/** Sends bytes as they are, and resolves with all that comes until the connection closes. */
export async function sendRaw(port: number, bytes: string): Promise<string> {
  const socket: Socket = connect({ port, host: "127.0.0.1" });
  let text = "";
  socket.on("data", (chunk) => {
    text += chunk.toString("latin1");
  });
  socket.on("error", () => undefined);
  await once(socket, "connect");
  socket.write(bytes, "latin1");
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`still open: ${JSON.stringify(bytes)}`)), 10_000);
    // Not `once`: a reset is an end as well.
    socket.once("close", () => {
      clearTimeout(timer);
      resolve();
    });
  }).finally(() => socket.destroy());
  return text;
}
