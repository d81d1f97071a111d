/**
 * The worker as a drill runs it: the process that `main.ts` is, with crash points that can be armed over the
 * channel to its parent. Arguments: the node's settings, the driver (`sim` or `qemu`), the guest agent for the first of them, the id of the host's boot,
 * limits in place of the worker's own, and optionally the number of the point at which to die, counted from the start.
 */
import { appendFileSync } from "node:fs";
import { readNodeConfig } from "@hearth/cluster";
import { HearthError, type HearthErrorCode } from "@hearth/errors";
import { QemuVmm } from "@hearth/vmm";
import { armCrashPoints } from "../journal/crash-point.ts";
import { ProcessVmm } from "../testing/process-vmm.ts";
import { runWorker } from "../worker-process.ts";

export type DrillOrder =
  /** Writes the name of every point from now on to a file, a line each. */
  | { readonly kind: "trace"; readonly path: string }
  /** Throws once at each of these points, as if what is done there had failed with this error. */
  | {
      readonly kind: "throw";
      readonly faults: readonly { readonly point: string; readonly code: HearthErrorCode }[];
    }
  /** Says to its parent when each change of a machine was committed, in nanoseconds of the host's monotonic clock. */
  | { readonly kind: "stamp" }
  /** Dies at the `nth` visit of any point from now on. */
  | { readonly kind: "die"; readonly nth: number }
  /** Dies at no point any more. */
  | { readonly kind: "spare" };

const [, , configPath, driver, agent = "", bootId = "boot-1", limits = "{}", dieAt = ""] = process.argv;

/** The first point after the commit of a change, before its fact is sent. */
const committedPoint = "publish change.before";

function die(): never {
  process.kill(process.pid, "SIGKILL");
  // The signal ends this process before the next line; were it late, nothing may run meanwhile.
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

function obey(order: DrillOrder): void {
  if (order.kind === "trace") {
    armCrashPoints((point) => appendFileSync(order.path, `${point}\n`));
    return;
  }
  if (order.kind === "throw") {
    const left = new Map(order.faults.map(({ point, code }) => [point, code]));
    armCrashPoints((point) => {
      const code = left.get(point);
      left.delete(point);
      if (code !== undefined) throw new HearthError(code, { message: `A drill says that ${point} failed.` });
    });
    return;
  }
  if (order.kind === "stamp") {
    armCrashPoints((point) => {
      if (point === committedPoint) process.send?.({ committedNs: String(process.hrtime.bigint()) });
    });
    return;
  }
  if (order.kind === "spare") {
    armCrashPoints(undefined);
    return;
  }
  let left = order.nth;
  armCrashPoints(() => {
    left -= 1;
    if (left === 0) die();
  });
}

if (dieAt !== "") obey({ kind: "die", nth: Number(dieAt) });
process.on("message", (order: DrillOrder) => {
  obey(order);
  process.send?.("armed");
});
// The channel to the parent is no reason to live on.
process.channel?.unref();

const config = readNodeConfig(configPath);
await runWorker({
  config,
  bootId,
  limits: JSON.parse(limits),
  makeVmm: () =>
    driver === "qemu" ? new QemuVmm({ accelerator: config.accelerator }) : new ProcessVmm(agent),
});
