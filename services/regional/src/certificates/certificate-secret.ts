/**
 * The secret that private keys of certificates are sealed with, for every host, as each has a front door. The fact is
 * made when the first host looks, so that it is there long before there is a certificate.
 */
import { newSealingSecret } from "@hearth/acme";
import type { FactStore, Replica } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { factKeys } from "@hearth/machine";
import type { Logger } from "@hearth/telemetry";
import { agreedSecret } from "../state/shared-secret.ts";

export interface CertificateSecretDeps {
  readonly facts: () => FactStore;
  readonly replica: Replica;
  readonly nodeId: string;
  /** Without it this host never has the secret. */
  readonly sealSeedPath: string | undefined;
  readonly logger: Logger;
}

const everyMs = 2_000;

export class CertificateSecret {
  readonly #deps: CertificateSecretDeps;
  #value: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #turn: Promise<void> | undefined;
  #isWarned = false;

  constructor(deps: CertificateSecretDeps) {
    this.#deps = deps;
  }

  /** Undefined while this host does not have it. */
  get known(): string | undefined {
    return this.#value;
  }

  /** @throws HearthError `unavailable` */
  get value(): string {
    if (this.#value !== undefined) return this.#value;
    throw new HearthError("unavailable", {
      message:
        "This host does not have the secret that certificates are kept with yet; try again in a moment.",
    });
  }

  start(): void {
    const { sealSeedPath } = this.#deps;
    if (sealSeedPath === undefined) return;
    const turn = (): void => {
      this.#turn ??= this.#tend(sealSeedPath).finally(() => {
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

  /** The next turn is the retry, and looks for hosts that have come. */
  async #tend(sealSeedPath: string): Promise<void> {
    try {
      const secret = await agreedSecret({
        ...this.#deps,
        sealSeedPath,
        key: factKeys.certificateSecret(),
        isFor: () => true,
        first: newSealingSecret,
      });
      this.#value = secret ?? this.#value;
      this.#isWarned = false;
    } catch (error) {
      if (!this.#isWarned)
        this.#deps.logger.warn({ err: error }, "the secret of certificates; it is tried again");
      this.#isWarned = true;
    }
  }
}
