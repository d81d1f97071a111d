/** One connection: who it is, and what it may open. It ends when its token does. */
import { HearthError } from "@hearth/errors";
import type { Logger } from "@hearth/telemetry";
import type { AuthContext, Connection as SshConnection } from "ssh2";
import { AuditEntry, type AuditSource } from "./audit.ts";
import { findTarget } from "./find-target.ts";
import { forward } from "./forward.ts";
import type { SshLimits } from "./limits.ts";
import { type LoggedIn, type LoginDeps, login } from "./login.ts";
import { sendBanner } from "./raw-packets.ts";
import { SessionChannel } from "./session-channel.ts";

export interface ConnectionDeps extends LoginDeps {
  readonly limits: SshLimits;
  readonly logger: Logger;
}

/** Names of machines and apps are shorter. */
const longestName = 255;

export class GatewayConnection {
  readonly #deps: ConnectionDeps;
  readonly #ssh: SshConnection;
  readonly #remote: string;
  #user: LoggedIn | undefined;
  #wanted = "";
  #attempts = 0;
  #channels = 0;
  #told: string | undefined;

  constructor(deps: ConnectionDeps, ssh: SshConnection, remote: string) {
    this.#deps = deps;
    this.#ssh = ssh;
    this.#remote = remote;
  }

  serve(): void {
    const { limits, logger } = this.#deps;
    const ssh = this.#ssh;
    const late = setTimeout(() => {
      logger.info({ remote: this.#remote }, "a connection did not log in in time");
      ssh.end();
    }, limits.loginWithinMs);
    ssh.once("close", () => clearTimeout(late));
    ssh.on("error", (error) => logger.debug({ err: error, remote: this.#remote }, "a connection broke"));
    ssh.on("authentication", (attempt) => void this.#authenticate(attempt));
    ssh.once("ready", () => {
      clearTimeout(late);
      this.#begin();
    });
  }

  async #authenticate(attempt: AuthContext): Promise<void> {
    this.#attempts += 1;
    if (this.#attempts > this.#deps.limits.loginAttempts || attempt.username.length > longestName)
      return void this.#ssh.end();
    if (attempt.method !== "publickey") return attempt.reject(["publickey"]);
    const { key, signature, blob } = attempt;
    const outcome = await login(this.#deps, { data: key.data, signature, blob });
    if (outcome.kind === "logged_in") {
      this.#user = outcome.user;
      this.#wanted = attempt.username;
      return attempt.accept();
    }
    if (outcome.kind === "would_do") return attempt.accept();
    const { reason, text } = outcome;
    const fields = { audit: "ssh", kind: "refused", reason, remote: this.#remote, wanted: attempt.username };
    // Clients offer whatever keys they have; those that are no certificates are nobody's failure.
    if (reason !== "malformed") this.#deps.logger.info(fields, "ssh login refused");
    if (text !== undefined && text !== this.#told) sendBanner(this.#ssh, text);
    this.#told = text;
    attempt.reject(["publickey"]);
  }

  #begin(): void {
    const user = this.#user;
    if (user === undefined) return void this.#ssh.end();
    const { limits, logger } = this.#deps;
    const { client } = user;
    const source: AuditSource = { user, remote: this.#remote, wanted: this.#wanted };
    const target = () => findTarget(client, this.#wanted);
    const recheck = setInterval(() => void this.#recheck(user), limits.recheckMs);
    this.#ssh.once("close", () => clearInterval(recheck));
    this.#ssh.on("session", (accept, reject) => {
      if (!this.#takeChannel()) return reject();
      const session = accept();
      session.once("close", () => this.#giveChannel());
      new SessionChannel({ client, source, logger, limits, findTarget: target }).serve(session);
    });
    this.#ssh.on("tcpip", (accept, reject, info) => {
      if (!this.#takeChannel()) return reject();
      const audit = new AuditEntry(logger, source, "forward");
      const withinMs = limits.forwardWithinMs;
      void forward({ info, accept, reject, findTarget: target, withinMs, audit }).finally(() =>
        this.#giveChannel(),
      );
    });
  }

  /** Sessions end with their token by themselves; what is forwarded does not pass through the API. */
  async #recheck({ client }: LoggedIn): Promise<void> {
    try {
      await client.tokens.current(AbortSignal.timeout(this.#deps.limits.recheckMs * 2));
    } catch (thrown) {
      if (HearthError.from(thrown).code !== "unauthenticated") return;
      this.#deps.logger.info({ remote: this.#remote }, "the token of a connection is over");
      this.#ssh.end();
    }
  }

  #takeChannel(): boolean {
    if (this.#channels >= this.#deps.limits.channels) return false;
    this.#channels += 1;
    return true;
  }

  #giveChannel(): void {
    this.#channels -= 1;
  }
}
