import { HearthError } from "@hearth/errors";
import type { Transport } from "./transport.ts";
import type { App, EgressPolicy } from "./types.ts";

export interface CreateApp {
  /** Made when it is not there; the default network of the organisation when absent. */
  readonly network?: string | undefined;
  /** What its machines may send, where they do not say so themselves. */
  readonly egress?: EgressPolicy | undefined;
  readonly signal?: AbortSignal | undefined;
}

export class Apps {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Those of all organisations unless one is named. */
  async list(orgSlug?: string, signal?: AbortSignal): Promise<App[]> {
    const body = await this.#transport.json<{ apps: App[] }>({
      method: "GET",
      path: "/v1/apps",
      query: { org_slug: orgSlug },
      signal,
    });
    return body.apps;
  }

  /** @throws HearthError `app_not_found` */
  get(name: string, signal?: AbortSignal): Promise<App> {
    return this.#transport.json({ method: "GET", path: appPath(name), signal });
  }

  /** @throws HearthError `name_taken` */
  create(name: string, orgSlug = "personal", options: CreateApp = {}): Promise<App> {
    const { network, egress, signal } = options;
    const json = {
      ...{ app_name: name, org_slug: orgSlug },
      ...(network === undefined ? {} : { network }),
      ...(egress === undefined ? {} : { egress }),
    };
    return this.#transport.json({ method: "POST", path: "/v1/apps", json, signal });
  }

  /** Makes the app when it is not there; two callers at once both succeed. */
  async ensure(name: string, signal?: AbortSignal): Promise<App> {
    try {
      return await this.get(name, signal);
    } catch (error) {
      if (!(error instanceof HearthError) || !["app_not_found", "not_found"].includes(error.code))
        throw error;
    }
    try {
      return await this.create(name, undefined, { signal });
    } catch (error) {
      if (!(error instanceof HearthError) || error.code !== "name_taken") throw error;
      return this.get(name, signal);
    }
  }

  /** What the machines of the app may send by default; empty when it says nothing. */
  egress(name: string, signal?: AbortSignal): Promise<EgressPolicy> {
    return this.#transport.json({ method: "GET", path: egressPath(name), signal });
  }

  /** The whole policy; it holds at once. @throws HearthError `invalid_argument` */
  setEgress(name: string, policy: EgressPolicy, signal?: AbortSignal): Promise<EgressPolicy> {
    return this.#transport.json({ method: "PUT", path: egressPath(name), json: policy, signal });
  }

  clearEgress(name: string, signal?: AbortSignal): Promise<EgressPolicy> {
    return this.#transport.json({ method: "DELETE", path: egressPath(name), signal });
  }

  /** With `force` its machines are destroyed as well. */
  async delete(name: string, options: { force?: boolean; signal?: AbortSignal } = {}): Promise<void> {
    const query = { force: options.force === true ? true : undefined };
    await this.#transport.json({ method: "DELETE", path: appPath(name), query, signal: options.signal });
  }
}

export const appPath = (app: string): string => `/v1/apps/${encodeURIComponent(app)}`;
const egressPath = (app: string): string => `${appPath(app)}/egress`;
