/**
 * Two lines a session: who, to which machine, what and from where when it has found its machine, and again with how long
 * and how it ended. The first is there so that a gateway that dies takes no session out of the record with it.
 */
import { randomBytes } from "node:crypto";
import type { Logger } from "@hearth/telemetry";
import type { LoggedIn } from "./login.ts";

export interface AuditSource {
  readonly user: LoggedIn;
  readonly remote: string;
  /** As the client named it. */
  readonly wanted: string;
}

export type AuditKind = "shell" | "exec" | "sftp" | "forward";

/** A command line may be long, and is a client's text. */
const maxDetail = 1024;

export class AuditEntry {
  readonly #logger: Logger;
  readonly #fields: Record<string, unknown>;
  readonly #beganMs = performance.now();
  #isWritten = false;

  constructor(logger: Logger, { user, remote, wanted }: AuditSource, kind: AuditKind) {
    this.#logger = logger;
    this.#fields = {
      ...{
        audit: "ssh",
        session_id: randomBytes(8).toString("hex"),
        kind,
        token_id: user.tokenId,
        token_label: user.label,
        key_id: user.keyId,
      },
      ...{ remote, wanted },
    };
  }

  add(fields: {
    readonly app?: string;
    readonly machine_id?: string;
    readonly detail?: string;
    readonly tty?: boolean;
  }): void {
    const { detail } = fields;
    Object.assign(this.#fields, fields, detail === undefined ? {} : { detail: detail.slice(0, maxDetail) });
  }

  /** The machine is known, and what was asked for is about to begin. */
  began(): void {
    this.#logger.info({ ...this.#fields, event: "began" }, "ssh session");
  }

  /** The first end counts. */
  end(fields: {
    readonly exit_code?: number;
    readonly exit_signal?: number;
    readonly code?: string;
    readonly bytes_in?: number;
    readonly bytes_out?: number;
  }): void {
    if (this.#isWritten) return;
    this.#isWritten = true;
    const ms = Math.round(performance.now() - this.#beganMs);
    this.#logger.info({ ...this.#fields, ...fields, event: "ended", ms }, "ssh session");
  }
}
