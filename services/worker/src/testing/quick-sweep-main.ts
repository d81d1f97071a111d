/** The worker's own program, but for how often it sweeps its host, and how soon it takes away what nobody owns. */
import { readNodeConfig } from "@hearth/cluster";
import { QemuVmm } from "@hearth/vmm";
import { runWorker } from "../worker-process.ts";

const config = readNodeConfig(process.env.HEARTH_NODE_CONFIG);
await runWorker({
  config,
  makeVmm: () => new QemuVmm({ accelerator: config.accelerator }),
  limits: { orphanSweepMs: 500, orphanGraceMs: 400 },
});
