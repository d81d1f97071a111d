/**
 * Access events as lines of the service's log, of the same form as its logger's. The logger looks for secrets in what
 * it is given, which cost a tenth of a request; an access event has none, as queries and headers are no part of it.
 */
import type { AccessLog } from "./access-log.ts";

/** @param names what each line says of this process */
export function accessLines(
  names: Readonly<Record<string, unknown>>,
  lines: { write(line: string): void },
  nowMs: () => number = Date.now,
): AccessLog {
  const bindings = JSON.stringify(names).slice(1, -1);
  let atMs = Number.NaN;
  let time = "";
  return (event) => {
    const now = nowMs();
    if (now !== atMs) {
      atMs = now;
      time = new Date(now).toISOString();
    }
    const told = JSON.stringify(event).slice(1);
    lines.write(
      `{"level":"info","time":"${time}",${bindings},${told.slice(0, -1)},"msg":"${event.event}"}\n`,
    );
  };
}
