/** Certificates for the SSH gateways of the region. */
import type { Transport } from "./transport.ts";

export interface SshCertificateWish {
  /** An Ed25519 key, as in a .pub file. */
  readonly public_key: string;
  readonly org?: string | undefined;
  readonly apps?: readonly string[] | undefined;
  readonly machines?: readonly string[] | undefined;
  /** Seconds. */
  readonly expires_in?: number | undefined;
}

export interface SshCertificate {
  /** As in a -cert.pub file. */
  readonly certificate: string;
  /** As this it is listed and revoked among the tokens. */
  readonly token_id: string;
  readonly expires_at: string;
  /** As in known_hosts, without the name of a host. */
  readonly host_key: string;
  /** Of the gateway, at the address of the API that answered. */
  readonly port: number;
}

export class Ssh {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** @throws HearthError `permission_denied` when it would be wider than the token in use */
  issue(wish: SshCertificateWish, signal?: AbortSignal): Promise<SshCertificate> {
    return this.#transport.json({ method: "POST", path: "/v1/ssh/certificates", json: wish, signal });
  }
}
