/** A region for drills: one real nats-server, API processes, and nodes with a real worker each. */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { cp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NatsServer, type NodeConfig } from "@hearth/cluster";
import { freePort } from "@hearth/testkit";
import { DrillNode, eventually, hostImage } from "@hearth/worker";
import { ApiProcess } from "./api-process.ts";

const readyLimitMs = 60_000;

export interface RegionSize {
  readonly apis: number;
  readonly nodes: number;
}

export class Region implements AsyncDisposable {
  readonly apis: ApiProcess[] = [];
  readonly nodes: DrillNode[] = [];
  readonly #directory = mkdtempSync(join(tmpdir(), "hr-"));
  readonly #stack = new AsyncDisposableStack();
  #server: NatsServer | undefined;
  #copies = 0;

  async start({ apis, nodes }: RegionSize): Promise<void> {
    this.#stack.defer(() => rmSync(this.#directory, { recursive: true, force: true }));
    const login = { user: "drill", pass: randomBytes(12).toString("hex") };
    const server = new NatsServer({ dir: join(this.#directory, "nats"), port: await freePort(), ...login });
    this.#server = server;
    this.#stack.defer(() => server.stop());
    await server.start();
    const nats: NodeConfig["nats"] = { servers: [server.url], ...login };
    for (let count = 0; count < nodes; count += 1) {
      const node = this.#stack.use(new DrillNode("sim", {}, nats));
      await node.start(hostImage);
      this.nodes.push(node);
    }
    for (let count = 0; count < apis; count += 1) {
      const api = this.#stack.use(new ApiProcess(join(this.#directory, `api${count}`), nats, `api${count}`));
      await api.start();
      this.apis.push(api);
    }
    await this.untilWritable();
  }

  /** Until every API serves writes and sees every node. */
  async untilWritable(): Promise<void> {
    for (const api of this.apis)
      await eventually(
        "the API sees the nodes",
        async () => {
          const { body } = await api.call("GET", "/v1/nodes");
          return Array.isArray(body) &&
            body.filter(({ schedulable }) => schedulable).length === this.nodes.length
            ? true
            : undefined;
        },
        readyLimitMs,
      );
  }

  /** Kills the bus, does this to its store, and starts it again. The copy of before is returned for later. */
  async loseStore(to: "nothing" | { readonly copy: string }): Promise<string> {
    const server = this.#server;
    if (server === undefined) throw new Error("the region is not started");
    const store = join(this.#directory, "nats/jetstream");
    await server.stop("SIGKILL");
    this.#copies += 1;
    const copy = join(this.#directory, `copy${this.#copies}`);
    await cp(store, copy, { recursive: true });
    await rm(store, { recursive: true });
    if (to !== "nothing") await cp(to.copy, store, { recursive: true });
    await server.start();
    return copy;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}
