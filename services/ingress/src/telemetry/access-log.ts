/** One structured event for each request and each connection that was forwarded, for logs that follow a machine. */
import type { WaitReason } from "../choosing/balancer.ts";

export interface AccessEvent {
  readonly event: "request" | "tunnel" | "connection";
  readonly status: number;
  readonly client: string;
  readonly protocol: string;
  readonly host?: string | undefined;
  readonly method?: string | undefined;
  /** Without the query, which may hold a secret. */
  readonly path?: string | undefined;
  readonly app?: string | undefined;
  readonly route?: string | undefined;
  readonly machine_id?: string | undefined;
  readonly request_id?: string | undefined;
  readonly trace_id?: string | undefined;
  readonly attempts?: number | undefined;
  /** Until there was a machine for it: what waking one has cost. */
  readonly wait_ms?: number | undefined;
  /** What that time went for; absent when there was a machine at once. */
  readonly why_waited?: WaitReason | undefined;
  /** From then until the guest began to answer. */
  readonly upstream_ms?: number | undefined;
  readonly duration_ms: number;
  /** Of bodies; of connections of bytes, all of them. */
  readonly bytes_in?: number | undefined;
  readonly bytes_out?: number | undefined;
  /** Why the front door answered by itself, or broke off. */
  readonly reason?: string | undefined;
  readonly why?: string | undefined;
}

export type AccessLog = (event: AccessEvent) => void;

const flushBytes = 32 * 1024;
const flushMs = 200;

/** Lines in large pieces: a write for each request would cost as much as the request. */
export function bufferedLines(write: (text: string) => void): { write(line: string): void; flush(): void } {
  let held = "";
  let timer: NodeJS.Timeout | undefined;
  const flush = (): void => {
    clearTimeout(timer);
    timer = undefined;
    if (held === "") return;
    const text = held;
    held = "";
    write(text);
  };
  return {
    flush,
    write(line) {
      held += line;
      if (held.length >= flushBytes) flush();
      else timer ??= setTimeout(flush, flushMs).unref();
    },
  };
}
