/**
 * The secret that private keys of certificates are sealed with, for every host, as each has a front door. The fact is
 * made when the first host looks, so that it is there long before there is a certificate.
 */
import { newSealingSecret } from "@hearth/acme";
import type { FactStore, Replica } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { factKeys } from "@hearth/machine";
import type { Logger } from "@hearth/telemetry";
import { SecretKeeper } from "../state/shared-secret.ts";

export interface CertificateSecretDeps {
  readonly facts: () => FactStore;
  readonly replica: Replica;
  readonly nodeId: string;
  /** Without it this host never has the secret. */
  readonly sealSeedPath: string | undefined;
  readonly logger: Logger;
}

export class CertificateSecret {
  readonly #keeper: SecretKeeper | undefined;
  #value: string | undefined;

  constructor({ sealSeedPath, ...deps }: CertificateSecretDeps) {
    if (sealSeedPath === undefined) return;
    this.#keeper = new SecretKeeper({
      ...{ ...deps, sealSeedPath, what: "the secret of certificates", key: factKeys.certificateSecret() },
      isFor: () => true,
      first: newSealingSecret,
      taken: (secret) => {
        this.#value = secret;
      },
    });
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
    this.#keeper?.start();
  }

  async stop(): Promise<void> {
    await this.#keeper?.stop();
  }
}
