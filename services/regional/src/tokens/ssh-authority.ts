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
import { SecretKeeper } from "../state/shared-secret.ts";

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

export class SshKeeper {
  readonly #settings: SshSettings;
  readonly #keeper: SecretKeeper;
  #authority: SshAuthority | undefined;

  constructor({ settings, ...deps }: SshKeeperDeps) {
    this.#settings = settings;
    const { sealSeedPath, secretPath } = settings;
    this.#keeper = new SecretKeeper({
      ...{ ...deps, sealSeedPath, what: "the keys of the SSH gateways", key: factKeys.sshAuthority() },
      isFor: ({ roles }) => roles.includes("api"),
      first: () => readIfThere(secretPath) ?? newAuthoritySecret(),
      taken: (secret) => {
        this.#keep(secret);
        this.#authority ??= authorityOf(secret);
      },
    });
  }

  get port(): number {
    return this.#settings.port;
  }

  /** @throws HearthError `unavailable` while this host does not have the secret */
  get authority(): SshAuthority {
    if (this.#authority !== undefined) return this.#authority;
    throw new HearthError("unavailable", {
      message: "This host does not have the keys of the SSH gateways yet; try again in a moment.",
    });
  }

  start(): void {
    this.#keeper.start();
  }

  async stop(): Promise<void> {
    await this.#keeper.stop();
  }

  #keep(secret: string): void {
    const { secretPath } = this.#settings;
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
