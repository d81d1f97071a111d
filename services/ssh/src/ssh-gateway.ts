/**
 * The SSH door of a host. It is a client of the API of its host and has no rights of its own: what a connection may do
 * is what the token in its certificate may. Constructing it acquires nothing; `start` listens.
 */
import { once } from "node:events";
import { type AddressInfo, createServer, type Server as NetServer, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { openSshPrivateKey } from "@hearth/ssh-keys";
import type { Connection } from "ssh2";
import Server from "ssh2/lib/server.js";
import { type ConnectionDeps, GatewayConnection } from "./connection.ts";
import { defaultLimits, type SshLimits } from "./limits.ts";

export interface SshGatewayDeps extends Omit<ConnectionDeps, "limits"> {
  readonly limits?: Partial<SshLimits>;
}

const probeAfterMs = 30_000;
const stopLimitMs = 2_000;

export class SshGateway {
  readonly #deps: ConnectionDeps;
  readonly #listener: NetServer;
  readonly #ssh: Server;
  /** By address and port of the client. */
  readonly #sockets = new Map<string, Socket>();
  /** Of connections, until all that was theirs has ended and is in the log. */
  readonly #served = new Set<Promise<void>>();
  readonly #bySource = new Map<string, number>();
  /** Of connections that have not said yet that they speak SSH. */
  readonly #mute = new Map<string, NodeJS.Timeout>();

  constructor(deps: SshGatewayDeps) {
    this.#deps = { ...deps, limits: { ...defaultLimits, ...deps.limits } };
    const hostKey = openSshPrivateKey(deps.authority.hostSeed, "hearth");
    this.#ssh = new Server({ hostKeys: [hostKey], ident: "Hearth" });
    this.#ssh.on("connection", (connection: Connection, { ip, port }) => {
      clearTimeout(this.#mute.get(`${ip}:${port}`));
      const remote = `${ip}:${port}`;
      const cut = (): void => void this.#sockets.get(remote)?.destroy();
      const served = new GatewayConnection(this.#deps, connection, { remote, cut }).serve();
      this.#served.add(served);
      void served.finally(() => this.#served.delete(served));
    });
    this.#listener = createServer(
      { noDelay: true, keepAlive: true, keepAliveInitialDelay: probeAfterMs },
      (socket) => this.#take(socket),
    );
  }

  /** Resolves with the port that it listens on. */
  async start({ host, port }: { readonly host: string; readonly port: number }): Promise<number> {
    this.#listener.listen(port, host);
    await once(this.#listener, "listening");
    return (this.#listener.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    const closed = once(this.#listener, "close");
    this.#listener.close();
    for (const socket of this.#sockets.values()) socket.destroy();
    await closed;
    const limit = delay(stopLimitMs, undefined, { ref: false });
    await Promise.race([Promise.all(this.#served), limit]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #take(socket: Socket): void {
    const { limits, logger } = this.#deps;
    const source = socket.remoteAddress ?? "";
    const ofSource = this.#bySource.get(source) ?? 0;
    socket.on("error", () => undefined);
    if (this.#sockets.size >= limits.connections || ofSource >= limits.connectionsPerSource) {
      logger.warn(
        { remote: source, connections: this.#sockets.size },
        "a connection over the limit is closed",
      );
      socket.destroy();
      return;
    }
    const remote = `${source}:${socket.remotePort}`;
    this.#sockets.set(remote, socket);
    this.#bySource.set(source, ofSource + 1);
    socket.once("close", () => {
      this.#sockets.delete(remote);
      const left = (this.#bySource.get(source) ?? 1) - 1;
      if (left === 0) this.#bySource.delete(source);
      else this.#bySource.set(source, left);
    });
    // ssh2 tells of a connection only after its first line, and the limit of a login counts from there.
    this.#mute.set(
      remote,
      setTimeout(() => socket.destroy(), limits.loginWithinMs),
    );
    socket.once("close", () => {
      clearTimeout(this.#mute.get(remote));
      this.#mute.delete(remote);
    });
    socket.setTimeout(limits.idleMs, () => socket.destroy());
    this.#ssh.injectSocket(socket);
  }
}
