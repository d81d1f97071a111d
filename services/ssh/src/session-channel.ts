/**
 * One session channel: what a client says before it begins (terminal, variables), and then a shell, a command or sftp,
 * once. Agent forwarding and X11 are refused by ssh2 itself, as nobody listens for them.
 */
import { HearthError } from "@hearth/errors";
import type { AppMachine, ExecSession, HearthClient } from "@hearth/sdk";
import type { Logger } from "@hearth/telemetry";
import type { ServerChannel, Session, SFTPWrapper } from "ssh2";
import { AuditEntry, type AuditSource } from "./audit.ts";
import type { SshLimits } from "./limits.ts";
import { cells, isPassedOn, sessionStart, signalNumber } from "./programs.ts";
import { endSftp } from "./raw-packets.ts";
import { fail, failedExit, relay } from "./relay.ts";
import { SftpSession } from "./sftp-session.ts";

export interface ChannelDeps {
  readonly client: HearthClient;
  readonly source: AuditSource;
  readonly logger: Logger;
  readonly limits: SshLimits;
  /** The machine that the client's user name means, looked up for each session, as it may be another one by now. */
  readonly findTarget: () => Promise<AppMachine>;
  /** Told of each program and sftp session, which never reject. */
  readonly run: (running: Promise<void>) => void;
}

const defaultSize = { cols: 80, rows: 24 };

export class SessionChannel {
  readonly #deps: ChannelDeps;
  readonly #env: Record<string, string> = {};
  #tty: { cols: number; rows: number } | undefined;
  #session: ExecSession | undefined;

  constructor(deps: ChannelDeps) {
    this.#deps = deps;
  }

  serve(session: Session): void {
    session.on("pty", (accept, _reject, { term, cols, rows }) => {
      this.#tty = { cols: cells(cols, defaultSize.cols), rows: cells(rows, defaultSize.rows) };
      if (/^[\w.+-]{1,64}$/.test(term)) this.#env.TERM = term;
      accept?.();
    });
    session.on("env", (accept, reject, { key, val }) => {
      const { variables, variableBytes } = this.#deps.limits;
      const isRoom = Object.keys(this.#env).length < variables && val.length <= variableBytes;
      if (!isPassedOn(key) || !isRoom || val.includes("\0")) return reject?.();
      this.#env[key] = val;
      accept?.();
    });
    session.on("window-change", (accept, _reject, { cols, rows }) => {
      this.#tty &&= { cols: cells(cols, this.#tty.cols), rows: cells(rows, this.#tty.rows) };
      if (this.#tty !== undefined) this.#session?.resize(this.#tty);
      accept?.();
    });
    session.on("signal", (accept, reject, { name }) => {
      const number = signalNumber(name);
      if (number === undefined) return reject?.();
      this.#session?.signal(number);
      accept?.();
    });
    const { run } = this.#deps;
    session.on("shell", (accept) => run(this.#run(accept(), undefined)));
    session.on("exec", (accept, _reject, { command }) => run(this.#run(accept(), command)));
    session.on("sftp", (accept) => run(this.#sftp(accept())));
  }

  async #run(channel: ServerChannel, command: string | undefined): Promise<void> {
    const audit = this.#audit(command === undefined ? "shell" : "exec");
    audit.add({ tty: this.#tty !== undefined, ...(command === undefined ? {} : { detail: command }) });
    channel.on("error", () => undefined);
    const leaving = new AbortController();
    channel.once("close", () => leaving.abort());
    try {
      const { app_name: app, id } = await this.#deps.findTarget();
      audit.add({ app, machine_id: id });
      audit.began();
      const tty = this.#tty;
      const start = sessionStart({
        env: this.#env,
        ...(command === undefined ? {} : { command }),
        ...(tty === undefined ? {} : { tty }),
      });
      const target = { app, id, signal: leaving.signal };
      const session = await this.#deps.client.machines.exec(target, start);
      this.#session = session;
      // The window may have changed while the session was opened.
      if (this.#tty !== undefined && this.#tty !== tty) session.resize(this.#tty);
      await relay(channel, session, audit);
    } catch (thrown) {
      fail(channel, HearthError.from(thrown), audit);
    }
  }

  async #sftp(sftp: SFTPWrapper): Promise<void> {
    const audit = this.#audit("sftp");
    const { client, limits } = this.#deps;
    const closed = new Promise<void>((resolve) => {
      sftp.once("close", () => resolve());
      sftp.once("end", () => endSftp(sftp, 0));
    });
    const machine = this.#deps.findTarget().then(({ app_name: app, id }) => {
      audit.add({ app, machine_id: id });
      audit.began();
      return { client, files: client.files, target: { app, id } };
    });
    const files = new SftpSession(sftp, limits);
    files.serve(machine);
    try {
      await machine;
      await closed;
      audit.end({ bytes_in: files.bytesIn, bytes_out: files.bytesOut });
    } catch (thrown) {
      const { code, message } = HearthError.from(thrown);
      audit.end({ code });
      endSftp(sftp, failedExit, `${message} (${code})`);
    }
    await files.stop();
  }

  #audit(kind: "shell" | "exec" | "sftp"): AuditEntry {
    return new AuditEntry(this.#deps.logger, this.#deps.source, kind);
  }
}
