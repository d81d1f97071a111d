/**
 * Access events as lines of the service's log, of the same form as its logger's. The logger looks for secrets in what
 * it is given, which cost a tenth of a request; an access event has none, as queries and headers are no part of it. They
 * are flat, so they are written field by field, at half of what JSON.stringify takes.
 */
import type { AccessEvent, AccessLog } from "./access-log.ts";

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
    let line = `{"level":"info","time":"${time}",${bindings}`;
    for (const name in event) {
      const value = event[name as keyof AccessEvent];
      if (value === undefined) continue;
      line += typeof value === "number" ? `,"${name}":${value}` : `,"${name}":${quoted(value)}`;
    }
    lines.write(`${line},"msg":"${event.event}"}\n`);
  };
}

/** What stands for itself in JSON; nearly all is so, and to look costs less than to have it looked through. */
const plain = /^[ !#-[\]-~]*$/;
const quoted = (text: string): string => (plain.test(text) ? `"${text}"` : JSON.stringify(text));
