import type { Inspection, MeshStatus } from "@hearth/machine";
import { Apps } from "./apps.ts";
import { Certificates } from "./certificates.ts";
import { Files } from "./files.ts";
import { Images } from "./images.ts";
import { listIn } from "./list-in.ts";
import { Machines } from "./machines.ts";
import { Networks } from "./networks.ts";
import { Ssh } from "./ssh.ts";
import { Tokens } from "./tokens.ts";
import { Transport, type TransportOptions } from "./transport.ts";
import type { Health, JoinTokenWish, MadeJoinToken, NodeStatus, NodeSummary } from "./types.ts";

const nodePath = (nodeId: string): string => `/v1/nodes/${encodeURIComponent(nodeId)}`;

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
  readonly networks: Networks;
  readonly certificates: Certificates;
  readonly ssh: Ssh;
  readonly #transport: Transport;

  constructor(options: TransportOptions) {
    this.#transport = new Transport(options);
    this.apps = new Apps(this.#transport);
    this.machines = new Machines(this.#transport);
    this.images = new Images(this.#transport);
    this.files = new Files(this.#transport);
    this.networks = new Networks(this.#transport);
    this.certificates = new Certificates(this.#transport);
    this.tokens = new Tokens(this.#transport);
    this.ssh = new Ssh(this.#transport);
  }

  async nodes(signal?: AbortSignal): Promise<NodeSummary[]> {
    return listIn(await this.#transport.json({ method: "GET", path: "/v1/nodes", signal }), "nodes");
  }

  async node(nodeId: string, signal?: AbortSignal): Promise<NodeStatus> {
    return await this.#transport.json({ method: "GET", path: nodePath(nodeId), signal });
  }

  /** Cordon and drain are wishes that last; `node` says how far a drain has come. */
  async changeNode(
    nodeId: string,
    verb: "cordon" | "uncordon" | "drain" | "undrain",
    signal?: AbortSignal,
  ): Promise<NodeStatus> {
    return await this.#transport.json({ method: "POST", path: `${nodePath(nodeId)}/${verb}`, signal });
  }

  /** @throws HearthError `conflict` naming what hinders it */
  async removeNode(
    nodeId: string,
    { force = false }: { readonly force?: boolean } = {},
    signal?: AbortSignal,
  ): Promise<{ readonly forgotten: readonly string[]; readonly bus?: "left" | "leaving" }> {
    const query = force ? { force: "true" } : {};
    return await this.#transport.json({ method: "DELETE", path: nodePath(nodeId), query, signal });
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
    const path = `${nodePath(nodeId)}/inspection`;
    const answerLimitMs = 40_000;
    return await this.#transport.json({ method: "GET", path, signal, answerLimitMs });
  }

  /** The network between hosts, as each host that answers sees it. */
  async mesh(signal?: AbortSignal): Promise<MeshStatus> {
    return await this.#transport.json({ method: "GET", path: "/v1/mesh", signal });
  }

  /**
   * Wants new keys on all hosts; `mesh` says when they are in use.
   * @throws HearthError `conflict` when there is no mesh, or a rotation is under way
   */
  async rotateMesh(signal?: AbortSignal): Promise<MeshStatus> {
    return await this.#transport.json({ method: "POST", path: "/v1/mesh/rotate", signal });
  }

  async health(signal?: AbortSignal): Promise<Health> {
    const answerLimitMs = 10_000;
    return (await this.#transport.json({ method: "GET", path: "/v1/health", signal, answerLimitMs })) ?? {};
  }
}
