/**
 * One connection: who it is, and what it may open. It ends when its token does, by the clock also when no API answers.
 * A client that does not take leave when it is told to is cut off: what ssh2 ends is only its own half.
 */
import { HearthError } from "@hearth/errors";
import { untilAborted } from "@hearth/process";
import type { Logger } from "@hearth/telemetry";
import type { AuthContext, Connection as SshConnection } from "ssh2";
import { AuditEntry, type AuditSource } from "./audit.ts";
import { findTarget } from "./find-target.ts";
import { forward } from "./forward.ts";
import type { SshLimits } from "./limits.ts";
import { clockToleranceMs, type LoggedIn, type LoginDeps, login } from "./login.ts";
import { sendBanner } from "./raw-packets.ts";
import { SessionChannel } from "./session-channel.ts";

export interface ConnectionDeps extends LoginDeps {
  readonly limits: SshLimits;
  readonly logger: Logger;
}

/** The connection below. */
export interface Line {
  /** Address and port of the client. */
  readonly remote: string;
  readonly cut: () => void;
}

/** Names of machines and apps are shorter. */
const longestName = 255;
/** Of setTimeout; no certificate lives as long. */
const longestTimerMs = 2 ** 31 - 1;

export class GatewayConnection {
  readonly #deps: ConnectionDeps;
  readonly #ssh: SshConnection;
  readonly #line: Line;
  readonly #closed = new AbortController();
  /** What runs on its channels. */
  readonly #running = new Set<Promise<void>>();
  #user: LoggedIn | undefined;
  #wanted = "";
  #attempts = 0;
  #channels = 0;
  #told: string | undefined;

  constructor(deps: ConnectionDeps, ssh: SshConnection, line: Line) {
    this.#deps = deps;
    this.#ssh = ssh;
    this.#line = line;
  }

  /** Resolves when it is over, with all that was opened on it. */
  async serve(): Promise<void> {
    const { limits, logger } = this.#deps;
    const ssh = this.#ssh;
    const late = setTimeout(() => {
      logger.info({ remote: this.#line.remote }, "a connection did not log in in time");
      this.#end();
    }, limits.loginWithinMs);
    ssh.once("close", () => {
      clearTimeout(late);
      this.#closed.abort();
    });
    ssh.on("error", (error) => logger.debug({ err: error, remote: this.#line.remote }, "a connection broke"));
    ssh.on("authentication", (attempt) => void this.#authenticate(attempt));
    ssh.once("ready", () => {
      clearTimeout(late);
      this.#begin();
    });
    await untilAborted(this.#closed.signal);
    // What has been opened is told of the end in this turn or the next ones.
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  #end(): void {
    const cut = setTimeout(this.#line.cut, this.#deps.limits.leaveWithinMs);
    this.#ssh.once("close", () => clearTimeout(cut));
    this.#ssh.end();
  }

  #run(running: Promise<void>): void {
    this.#running.add(running);
    void running.finally(() => this.#running.delete(running));
  }

  async #authenticate(attempt: AuthContext): Promise<void> {
    this.#attempts += 1;
    if (this.#attempts > this.#deps.limits.loginAttempts || attempt.username.length > longestName)
      return this.#end();
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
    const fields = {
      audit: "ssh",
      kind: "refused",
      reason,
      remote: this.#line.remote,
      wanted: attempt.username,
    };
    // Clients offer whatever keys they have; those that are no certificates are nobody's failure.
    if (reason !== "malformed") this.#deps.logger.info(fields, "ssh login refused");
    if (text !== undefined && text !== this.#told) sendBanner(this.#ssh, text);
    this.#told = text;
    attempt.reject(["publickey"]);
  }

  #begin(): void {
    const user = this.#user;
    if (user === undefined) return void this.#end();
    const { limits, logger } = this.#deps;
    const { client } = user;
    const source: AuditSource = { user, remote: this.#line.remote, wanted: this.#wanted };
    const target = () => findTarget(client, this.#wanted);
    const recheck = setInterval(() => void this.#recheck(user), limits.recheckMs);
    const leftMs = user.validUntilMs + clockToleranceMs - this.#deps.nowMs();
    const over = setTimeout(() => this.#isOver(), Math.min(Math.max(leftMs, 0), longestTimerMs));
    this.#ssh.once("close", () => {
      clearInterval(recheck);
      clearTimeout(over);
    });
    this.#ssh.on("session", (accept, reject) => {
      if (!this.#takeChannel()) return reject();
      const session = accept();
      session.once("close", () => this.#giveChannel());
      const run = (running: Promise<void>): void => this.#run(running);
      new SessionChannel({ client, source, logger, limits, findTarget: target, run }).serve(session);
    });
    this.#ssh.on("tcpip", (accept, reject, info) => {
      if (!this.#takeChannel()) return reject();
      const audit = new AuditEntry(logger, source, "forward");
      const withinMs = limits.forwardWithinMs;
      const { signal } = this.#closed;
      const forwarding = forward({ info, accept, reject, findTarget: target, withinMs, audit, signal });
      this.#run(forwarding.finally(() => this.#giveChannel()));
    });
  }

  /** Sessions end with their token by themselves; what is forwarded does not pass through the API. */
  async #recheck({ client }: LoggedIn): Promise<void> {
    try {
      await client.tokens.current(AbortSignal.timeout(this.#deps.limits.recheckMs * 2));
    } catch (thrown) {
      if (HearthError.from(thrown).code !== "unauthenticated") return;
      this.#isOver();
    }
  }

  #isOver(): void {
    this.#deps.logger.info({ remote: this.#line.remote }, "the token of a connection is over");
    this.#end();
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
