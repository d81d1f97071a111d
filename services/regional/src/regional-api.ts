/**
 * The public API of a region. It keeps no state that is not a replica: any process of it can be killed, and
 * the next one serves the same. Constructing it acquires nothing; `start` listens.
 */
import type { AddressInfo } from "node:net";
import type { Bus, FactStore, Replica } from "@hearth/cluster";
import { newInstanceId } from "@hearth/machine";
import type { Logger } from "@hearth/telemetry";
import type { ApiContext } from "./api-context.ts";
import { adminHashes } from "./auth.ts";
import { ClusterView } from "./cluster-view.ts";
import { type App, createHttpServer } from "./http-server.ts";
import { sweepClaims } from "./idempotency.ts";
import { ImageCheck } from "./image-check.ts";
import type { Region } from "./join.ts";
import { MachineAccess } from "./machine-access.ts";
import { renderOpenApi } from "./openapi.ts";
import { registerRoutes } from "./routes.ts";
import { defaultSessionLimits, type SessionLimits, SessionSockets } from "./session-sockets.ts";
import { WorkerClient } from "./worker-client.ts";

export interface RegionalApiDeps {
  /** Throws `unavailable` while there is no connection to the bus; so does `facts`. */
  readonly bus: () => Bus;
  readonly facts: () => FactStore;
  readonly replica: Replica;
  readonly tokenHash: Buffer;
  readonly region: Region;
  readonly nowMs: () => number;
  readonly randomBytes: (length: number) => Uint8Array;
  readonly logger: Logger;
  readonly sessionLimits?: Partial<SessionLimits>;
}

const sweepEveryMs = 3600_000;

export class RegionalApi {
  readonly #context: ApiContext;
  readonly #app: App;
  #sweeping: NodeJS.Timeout | undefined;

  constructor(deps: RegionalApiDeps) {
    const view = new ClusterView(deps.replica, deps.nowMs);
    const worker = new WorkerClient(deps.bus);
    const { logger, nowMs, randomBytes } = deps;
    const sessions = new SessionSockets({ ...defaultSessionLimits, ...deps.sessionLimits });
    const server = {
      isAdminHash: adminHashes(deps.replica, deps.tokenHash),
      logger,
      newRequestId: () => newInstanceId(randomBytes, nowMs),
    };
    this.#context = {
      ...deps,
      view,
      worker,
      sessions,
      openApi: () => renderOpenApi(createHttpServer(server), (app) => registerRoutes(app, this.#context)),
      access: new MachineAccess(view, worker),
      images: new ImageCheck(deps.bus, (error) =>
        logger.warn({ err: error, code: error.code }, "an image was not checked before its machine was made"),
      ),
    };
    this.#app = createHttpServer(server);
    sessions.attach(this.#app);
    registerRoutes(this.#app, this.#context);
  }

  /** Resolves with the URL that it listens on. */
  async start(listen: { readonly host: string; readonly port: number }): Promise<string> {
    await this.#app.listen(listen);
    this.#sweeping = setInterval(() => {
      sweepClaims(this.#context).catch((error: unknown) =>
        this.#context.logger.warn({ err: error }, "sweep"),
      );
    }, sweepEveryMs).unref();
    const { address, port, family } = this.#app.server.address() as AddressInfo;
    return `http://${family === "IPv6" ? `[${address}]` : address}:${port}`;
  }

  /** Requests under way are cut off: their callers retry, and the next process serves them. */
  async stop(): Promise<void> {
    clearInterval(this.#sweeping);
    this.#context.images.stop();
    await this.#app.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
