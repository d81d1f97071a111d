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
    lines.write(`{"level":"info","time":"${time}",${bindings},${fieldsOf(event)},"msg":"${event.event}"}\n`);
  };
}

/** Only what a client or a guest has a say in can have what JSON must write otherwise. */
function fieldsOf(event: AccessEvent): string {
  const { host, method, path, app, route, machine_id, request_id, attempts, wait_ms, upstream_ms } = event;
  const { bytes_in, bytes_out, reason, why } = event;
  let fields = `"event":"${event.event}","status":${event.status},"client":"${event.client}","protocol":"${event.protocol}"`;
  if (host !== undefined) fields += `,"host":${quoted(host)}`;
  if (method !== undefined) fields += `,"method":${quoted(method)}`;
  if (path !== undefined) fields += `,"path":${quoted(path)}`;
  if (app !== undefined) fields += `,"app":"${app}"`;
  if (route !== undefined) fields += `,"route":"${route}"`;
  if (machine_id !== undefined) fields += `,"machine_id":"${machine_id}"`;
  if (request_id !== undefined) fields += `,"request_id":"${request_id}","trace_id":"${event.trace_id}"`;
  if (attempts !== undefined) fields += `,"attempts":${attempts}`;
  if (wait_ms !== undefined) fields += `,"wait_ms":${wait_ms}`;
  if (event.why_waited !== undefined) fields += `,"why_waited":"${event.why_waited}"`;
  if (upstream_ms !== undefined) fields += `,"upstream_ms":${upstream_ms}`;
  fields += `,"duration_ms":${event.duration_ms}`;
  if (bytes_in !== undefined) fields += `,"bytes_in":${bytes_in}`;
  if (bytes_out !== undefined) fields += `,"bytes_out":${bytes_out}`;
  if (reason !== undefined) fields += `,"reason":${quoted(reason)}`;
  return why === undefined ? fields : `${fields},"why":${quoted(why)}`;
}

/** What stands for itself in JSON; nearly all is so, and to look costs less than to have it looked through. */
const plain = /^[ !#-[\]-~]*$/;
const quoted = (text: string): string => (plain.test(text) ? `"${text}"` : JSON.stringify(text));
