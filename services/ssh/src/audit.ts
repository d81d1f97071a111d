/** One line a session: who, to which machine, what, from where, how long, and how it ended. */
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
      ...{ audit: "ssh", kind, token_id: user.tokenId, token_label: user.label, key_id: user.keyId },
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
    this.#logger.info({ ...this.#fields, ...fields, ms }, "ssh session");
  }
}
