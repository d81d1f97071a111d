/** The worker of one node: a process that the host agent starts and ends. Its machines outlive it. */
import { readNodeConfig } from "@hearth/cluster";
import { QemuVmm } from "@hearth/vmm";
import { runWorker } from "./worker-process.ts";

const config = readNodeConfig(process.env.HEARTH_NODE_CONFIG);
await runWorker({ config, makeVmm: () => new QemuVmm({ accelerator: config.accelerator }) });
