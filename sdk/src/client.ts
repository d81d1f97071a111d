import type { Inspection, NodeFact } from "@hearth/machine";
import { Apps } from "./apps.ts";
import { Files } from "./files.ts";
import { Images } from "./images.ts";
import { listIn } from "./list-in.ts";
import { Machines } from "./machines.ts";
import { Tokens } from "./tokens.ts";
import { Transport, type TransportOptions } from "./transport.ts";
import type { Health, JoinTokenWish, MadeJoinToken } from "./types.ts";

/**
 * The API of a Hearth region.
 *
 * Every method fails with a HearthError: branch on its `code`. Nothing is retried, except waits and a call whose
 * connection had been closed before it was sent.
 */
export class HearthClient {
  readonly apps: Apps;
  readonly machines: Machines;
  readonly images: Images;
  readonly files: Files;
  readonly tokens: Tokens;
  readonly #transport: Transport;

  constructor(options: TransportOptions) {
    this.#transport = new Transport(options);
    this.apps = new Apps(this.#transport);
    this.machines = new Machines(this.#transport);
    this.images = new Images(this.#transport);
    this.files = new Files(this.#transport);
    this.tokens = new Tokens(this.#transport);
  }

  async nodes(signal?: AbortSignal): Promise<NodeFact[]> {
    return listIn(await this.#transport.json({ method: "GET", path: "/v1/nodes", signal }), "nodes");
  }

  /** A token with which one host joins the region. It is in this answer only. */
  async joinToken(wanted: JoinTokenWish = {}, signal?: AbortSignal): Promise<MadeJoinToken> {
    return await this.#transport.json({
      method: "POST",
      path: "/v1/nodes/join-tokens",
      json: wanted,
      signal,
    });
  }

  /** Compares the database of a node's worker with its host. */
  async inspectNode(nodeId: string, signal?: AbortSignal): Promise<Inspection> {
    const path = `/v1/nodes/${encodeURIComponent(nodeId)}/inspection`;
    const answerLimitMs = 40_000;
    return await this.#transport.json({ method: "GET", path, signal, answerLimitMs });
  }

  async health(signal?: AbortSignal): Promise<Health> {
    const answerLimitMs = 10_000;
    return (await this.#transport.json({ method: "GET", path: "/v1/health", signal, answerLimitMs })) ?? {};
  }
}
