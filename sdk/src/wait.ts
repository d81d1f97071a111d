/** The API waits for a minute at most; this waits for as long as the caller wants. */
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "@hearth/errors";
import type { MachineState } from "@hearth/machine";
import type { Transport } from "./transport.ts";

export interface WaitOptions {
  /** `settled` is any state in which a machine may rest. */
  readonly states: readonly (MachineState | "settled")[];
  readonly timeoutMs?: number;
  /** Of which version of the machine. */
  readonly instanceId?: string;
  readonly signal?: AbortSignal | undefined;
}

const longestMs = 60_000;
const retryMs = 500;

/** @throws HearthError `deadline_exceeded`, `machine_not_found` unless `destroyed` is waited for */
export async function waitForMachine(
  transport: Transport,
  path: string,
  { states, timeoutMs = 300_000, instanceId, signal }: WaitOptions,
): Promise<void> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const leftMs = end - Date.now();
    const timeout = Math.max(1, Math.ceil(Math.min(leftMs, longestMs) / 1000));
    try {
      const query = { state: states, timeout, instance_id: instanceId };
      const answerLimitMs = timeout * 1000 + 15_000;
      await transport.json({ method: "GET", path: `${path}/wait`, query, signal, answerLimitMs });
      return;
    } catch (error) {
      const { code } = HearthError.from(error);
      if (code === "machine_not_found" && states.includes("destroyed")) return;
      const again = code === "deadline_exceeded" || code === "unavailable";
      if (!again || Date.now() >= end) throw error;
      if (code === "unavailable") await delay(retryMs);
    }
  }
}
