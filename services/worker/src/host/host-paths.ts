/** Where the things of a machine are on this host. */
import { join } from "node:path";
import type { NodeConfig } from "@hearth/cluster";

export class HostPaths {
  readonly #data: string;
  readonly #run: string;
  /** When the node's lease ends: what guards read. */
  readonly lease: string;

  constructor(config: Pick<NodeConfig, "data_dir" | "run_dir">) {
    this.#data = join(config.data_dir, "worker");
    this.#run = join(config.run_dir, "m");
    this.lease = join(config.run_dir, "lease");
  }

  get database(): string {
    return join(this.#data, "worker.db");
  }
  get data(): string {
    return this.#data;
  }
  /** Directories of machines, by id. */
  get machines(): string {
    return join(this.#data, "machines");
  }
  /** Run directories of VMs, by id. */
  get runs(): string {
    return this.#run;
  }
  get templates(): string {
    return join(this.#data, "templates");
  }
  machine(id: string): string {
    return join(this.machines, id);
  }
  /** Short: sockets are in it. */
  runDir(id: string): string {
    return join(this.#run, id);
  }
  scratch(id: string): string {
    return join(this.machine(id), "scratch.ext4");
  }
  console(id: string): string {
    return join(this.machine(id), "console.log");
  }
}
