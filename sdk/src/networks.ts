import type { Transport } from "./transport.ts";

export interface Network {
  readonly name: string;
  readonly organization: { readonly name: string; readonly slug: string };
  readonly apps: readonly string[];
  readonly paired_with: readonly string[];
  readonly created_at: number;
}

/** Private networks of one organisation, `personal` unless another is named. */
export class Networks {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  async list(org = "personal", signal?: AbortSignal): Promise<Network[]> {
    const path = networksPath(org);
    return (await this.#transport.json<{ networks: Network[] }>({ method: "GET", path, signal })).networks;
  }

  /** @throws HearthError `network_not_found` */
  get(name: string, org = "personal", signal?: AbortSignal): Promise<Network> {
    return this.#transport.json({ method: "GET", path: networkPath(org, name), signal });
  }

  /** @throws HearthError `name_taken` */
  create(name: string, org = "personal", signal?: AbortSignal): Promise<Network> {
    return this.#transport.json({ method: "POST", path: networksPath(org), json: { name }, signal });
  }

  /** @throws HearthError `network_in_use` */
  async delete(name: string, org = "personal", signal?: AbortSignal): Promise<void> {
    await this.#transport.json({ method: "DELETE", path: networkPath(org, name), signal });
  }

  /** Machines of the two may talk, in both directions. Repeatable. */
  async pair(one: string, other: string, org = "personal", signal?: AbortSignal): Promise<void> {
    await this.#transport.json({ method: "PUT", path: pairPath(org, one, other), signal });
  }

  async unpair(one: string, other: string, org = "personal", signal?: AbortSignal): Promise<void> {
    await this.#transport.json({ method: "DELETE", path: pairPath(org, one, other), signal });
  }
}

const networksPath = (org: string): string => `/v1/orgs/${encodeURIComponent(org)}/networks`;
const networkPath = (org: string, name: string): string => `${networksPath(org)}/${encodeURIComponent(name)}`;
const pairPath = (org: string, one: string, other: string): string =>
  `${networkPath(org, one)}/pairs/${encodeURIComponent(other)}`;
