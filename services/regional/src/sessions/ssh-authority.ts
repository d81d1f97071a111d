/**
 * The secret of the region's SSH gateways: made once, sealed in cluster state for each host that has an API, and laid
 * on such a host in a file for its gateway. Any host that has it seals it for those that came later, so a region whose
 * first host is gone keeps its host key.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { FactStore, Replica } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { factKeys } from "@hearth/machine";
import { authorityOf, newAuthoritySecret, type SshAuthority } from "@hearth/ssh-keys";
import type { Logger } from "@hearth/telemetry";
import { agreedSecret } from "../state/shared-secret.ts";

export interface SshSettings {
  readonly port: number;
  readonly secretPath: string;
  readonly sealSeedPath: string;
}

export interface SshKeeperDeps {
  readonly facts: () => FactStore;
  readonly replica: Replica;
  readonly nodeId: string;
  readonly logger: Logger;
  readonly settings: SshSettings;
}

const everyMs = 2_000;

export class SshKeeper {
  readonly #deps: SshKeeperDeps;
  #authority: SshAuthority | undefined;
  #timer: NodeJS.Timeout | undefined;
  #turn: Promise<void> | undefined;
  #isWarned = false;

  constructor(deps: SshKeeperDeps) {
    this.#deps = deps;
  }

  get port(): number {
    return this.#deps.settings.port;
  }

  /** @throws HearthError `unavailable` while this host does not have the secret */
  get authority(): SshAuthority {
    if (this.#authority !== undefined) return this.#authority;
    throw new HearthError("unavailable", {
      message: "This host does not have the keys of the SSH gateways yet; try again in a moment.",
    });
  }

  start(): void {
    const turn = (): void => {
      this.#turn ??= this.#tend().finally(() => {
        this.#turn = undefined;
      });
    };
    turn();
    this.#timer = setInterval(turn, everyMs).unref();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#turn;
  }

  /** The next turn is the retry. */
  async #tend(): Promise<void> {
    try {
      const secret = await this.#agreed();
      if (secret === undefined) return;
      this.#keep(secret);
      this.#authority ??= authorityOf(secret);
      this.#isWarned = false;
    } catch (error) {
      if (!this.#isWarned)
        this.#deps.logger.warn({ err: error }, "the keys of the SSH gateways; it is tried again");
      this.#isWarned = true;
    }
  }

  #agreed(): Promise<string | undefined> {
    const { settings } = this.#deps;
    return agreedSecret({
      ...this.#deps,
      sealSeedPath: settings.sealSeedPath,
      key: factKeys.sshAuthority(),
      isFor: ({ roles }) => roles.includes("api"),
      first: () => readIfThere(settings.secretPath) ?? newAuthoritySecret(),
    });
  }

  #keep(secret: string): void {
    const { secretPath } = this.#deps.settings;
    if (readIfThere(secretPath) === secret) return;
    mkdirSync(dirname(secretPath), { recursive: true, mode: 0o700 });
    const next = `${secretPath}.${process.pid}`;
    writeFileSync(next, `${secret}\n`, { mode: 0o600, flush: true });
    renameSync(next, secretPath);
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
