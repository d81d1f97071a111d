/**
 * The public API of a region. It keeps no state that is not a replica: any process of it can be killed, and
 * the next one serves the same. Constructing it acquires nothing; `start` listens.
 */
import type { AddressInfo } from "node:net";
import type { Bus, FactStore, Replica } from "@hearth/cluster";
import { newInstanceId } from "@hearth/machine";
import type { Logger } from "@hearth/telemetry";
import type { ApiContext } from "./api-context.ts";
import { type CertificateSettings, Certificates } from "./certificates/certificates.ts";
import { AccessGate } from "./http/access-gate.ts";
import { type App, createHttpServer } from "./http/http-server.ts";
import { sweepClaims } from "./http/idempotency.ts";
import { renderOpenApi } from "./http/openapi.ts";
import { MachineAccess } from "./machines/machine-access.ts";
import type { Region } from "./nodes/join.ts";
import { defaultKeeperLimits, type KeeperLimits, NodeKeeper } from "./nodes/node-keeper.ts";
import { ImageCheck } from "./placement/image-check.ts";
import { registerRoutes } from "./routes.ts";
import { defaultSessionLimits, type SessionLimits, SessionSockets } from "./sessions/session-sockets.ts";
import { type AnnounceDeps, announce } from "./state/announce.ts";
import { ClusterView } from "./state/cluster-view.ts";
import { WorkerClient } from "./state/worker-client.ts";
import { Authenticator } from "./tokens/auth.ts";
import { OperatorTokens } from "./tokens/operator-tokens.ts";
import type { SigningKey } from "./tokens/signing-key.ts";
import { SshKeeper, type SshSettings } from "./tokens/ssh-authority.ts";
import { TokenIndex } from "./tokens/token-index.ts";
import { TokenIssuer } from "./tokens/token-issue.ts";
import { TokenVerifier } from "./tokens/token-verify.ts";

export interface RegionalApiDeps {
  /** Throws `unavailable` while there is no connection to the bus; so does `facts`. */
  readonly bus: () => Bus;
  readonly facts: () => FactStore;
  readonly replica: Replica;
  readonly region: Region;
  readonly nodeId: string;
  /** Of the operator's token of this host, where it has one. */
  readonly tokenHash: Buffer | undefined;
  readonly signingKey: SigningKey;
  readonly nowMs: () => number;
  readonly randomBytes: (length: number) => Uint8Array;
  readonly logger: Logger;
  /** Of this process, counted by nobody else; the host's own when absent. */
  readonly monotonicMs?: () => number;
  /** Of the SSH gateway of this host; without it no certificates are issued. */
  readonly sshSettings?: SshSettings;
  /** Without it custom domains have the certificates of their hosts, and none can be uploaded. */
  readonly certificateSettings?: CertificateSettings;
  readonly sessionLimits?: Partial<SessionLimits>;
  readonly keeperLimits?: Partial<KeeperLimits>;
  /** How often sessions are held against the end of their tokens. */
  readonly recheckMs?: number;
}

/** On every read: how old what it was answered from may be, in milliseconds. */
export const replicaAgeHeader = "hearth-replica-age-ms";
const replicaAge = ({ ageMs }: Replica): string =>
  Number.isFinite(ageMs) ? `${Math.round(ageMs)}` : "unknown";

const sweepEveryMs = 3600_000;

export class RegionalApi {
  readonly #context: ApiContext;
  readonly #app: App;
  readonly #keeper: NodeKeeper;
  readonly #announcement: AnnounceDeps;
  readonly #stopping = new AbortController();
  #announcing: Promise<void> | undefined;
  #sweeping: NodeJS.Timeout | undefined;

  constructor(deps: RegionalApiDeps) {
    const { monotonicMs = () => performance.now() } = deps;
    const view = new ClusterView(deps.replica, { nowMs: deps.nowMs, monotonicMs });
    const worker = new WorkerClient(deps.bus);
    const { logger, nowMs, randomBytes } = deps;
    const sessions = new SessionSockets({ ...defaultSessionLimits, ...deps.sessionLimits });
    const own = { nodeId: deps.nodeId, hash: deps.tokenHash };
    const tokens = new TokenIndex(deps.replica);
    const operators = new OperatorTokens(deps.replica, own);
    const verifier = new TokenVerifier({ replica: deps.replica, tokens, nowMs });
    const gate = new AccessGate({
      ...{ authenticator: new Authenticator(operators, verifier), view },
      recheckMs: deps.recheckMs,
    });
    this.#announcement = { ...deps, operators, own };
    tokens.watch(() => gate.recheck());
    operators.watch(() => gate.recheck());
    const server = {
      gate,
      logger,
      newRequestId: () => newInstanceId(randomBytes, nowMs),
    };
    this.#context = {
      ...deps,
      view,
      worker,
      sessions,
      ssh:
        deps.sshSettings === undefined ? undefined : new SshKeeper({ ...deps, settings: deps.sshSettings }),
      certificates: new Certificates({ ...deps, view, settings: deps.certificateSettings ?? {} }),
      gate,
      tokens,
      issuer: new TokenIssuer({ ...this.#announcement, tokens, randomBytes }),
      openApi: () => renderOpenApi(createHttpServer(server), (app) => registerRoutes(app, this.#context)),
      access: new MachineAccess(view, worker),
      images: new ImageCheck(deps.bus, (error) =>
        logger.warn({ err: error, code: error.code }, "an image was not checked before its machine was made"),
      ),
    };
    this.#keeper = new NodeKeeper({
      ...this.#context,
      monotonicMs,
      limits: { ...defaultKeeperLimits, ...deps.keeperLimits },
    });
    this.#app = createHttpServer(server);
    sessions.attach(this.#app);
    this.#app.addHook("onSend", async (request, reply) => {
      if (request.method === "GET") reply.header(replicaAgeHeader, replicaAge(deps.replica));
    });
    registerRoutes(this.#app, this.#context);
  }

  /** Resolves with the URL that it listens on. */
  async start(listen: { readonly host: string; readonly port: number }): Promise<string> {
    await this.#app.listen(listen);
    this.#keeper.start();
    this.#context.gate.start();
    this.#context.ssh?.start();
    this.#context.certificates.start();
    this.#announcing = announce(this.#announcement, this.#stopping.signal);
    this.#sweeping = setInterval(() => {
      Promise.all([sweepClaims(this.#context), this.#context.issuer.sweep()]).catch((error: unknown) =>
        this.#context.logger.warn({ err: error }, "sweep"),
      );
    }, sweepEveryMs).unref();
    const { address, port, family } = this.#app.server.address() as AddressInfo;
    return `http://${family === "IPv6" ? `[${address}]` : address}:${port}`;
  }

  /** Requests under way are cut off: their callers retry, and the next process serves them. */
  async stop(): Promise<void> {
    clearInterval(this.#sweeping);
    await this.#keeper.stop();
    this.#stopping.abort();
    await this.#context.ssh?.stop();
    await this.#context.certificates.stop();
    this.#context.gate.stop();
    this.#context.images.stop();
    await this.#app.close();
    await this.#announcing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
