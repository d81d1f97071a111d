/**
 * Access events as lines of the service's log, of the same form as its logger's. The logger looks for secrets in what
 * it is given, which cost a tenth of a request; an access event has none, as queries and headers are no part of it. The
 * events are flat, so they are written field by field, and what is as in the event before is not made anew.
 */
import type { AccessEvent, AccessLog } from "./access-log.ts";

/** @param names what each line says of this process */
export function accessLines(
  names: Readonly<Record<string, unknown>>,
  lines: { write(line: string): void },
  nowMs: () => number = Date.now,
): AccessLog {
  const bindings = JSON.stringify(names).slice(1, -1);
  const [clients, targets] = [new ClientPart(), new TargetPart()];
  let atMs = Number.NaN;
  let begin = "";
  return (event) => {
    const now = nowMs();
    if (now !== atMs) {
      atMs = now;
      begin = flat(`{"level":"info","time":"${new Date(now).toISOString()}",${bindings},"event":"`);
    }
    const path = event.path === undefined ? "" : `,"path":${quoted(event.path)}`;
    lines.write(begin + clients.of(event) + path + targets.of(event) + ownPart(event));
  };
}

/** A text that is made of others is put together only when it is read; what is used again is better whole. */
function flat(text: string): string {
  return Buffer.from(text).toString();
}

/** Only what a client or a guest has a say in can have what JSON must write otherwise. */
class ClientPart {
  #last: AccessEvent | undefined;
  #text = "";

  of(event: AccessEvent): string {
    const last = this.#last;
    const { status, client, protocol, host, method } = event;
    if (
      last?.status === status &&
      last.client === client &&
      last.host === host &&
      last.method === method &&
      last.protocol === protocol &&
      last.event === event.event
    )
      return this.#text;
    let text = `${event.event}","status":${status},"client":"${client}","protocol":"${protocol}"`;
    if (host !== undefined) text += `,"host":${quoted(host)}`;
    if (method !== undefined) text += `,"method":${quoted(method)}`;
    this.#last = event;
    this.#text = flat(text);
    return this.#text;
  }
}

class TargetPart {
  #last: AccessEvent | undefined;
  #text = "";

  of(event: AccessEvent): string {
    const { app, route, machine_id } = event;
    const last = this.#last;
    if (last?.machine_id === machine_id && last?.route === route && last?.app === app) return this.#text;
    let text = "";
    if (app !== undefined) text += `,"app":"${app}"`;
    if (route !== undefined) text += `,"route":"${route}"`;
    if (machine_id !== undefined) text += `,"machine_id":"${machine_id}"`;
    this.#last = event;
    this.#text = flat(text);
    return this.#text;
  }
}

function ownPart(event: AccessEvent): string {
  const { request_id, attempts, wait_ms, upstream_ms, bytes_in, bytes_out, reason, why } = event;
  let text = "";
  if (request_id !== undefined) text += `,"request_id":"${request_id}"`;
  if (event.trace_id !== undefined) text += `,"trace_id":"${event.trace_id}"`;
  if (attempts !== undefined) text += `,"attempts":${attempts}`;
  if (wait_ms !== undefined) text += `,"wait_ms":${decimal(wait_ms)}`;
  if (event.why_waited !== undefined) text += `,"why_waited":"${event.why_waited}"`;
  if (upstream_ms !== undefined) text += `,"upstream_ms":${decimal(upstream_ms)}`;
  text += `,"duration_ms":${decimal(event.duration_ms)}`;
  if (bytes_in !== undefined) text += `,"bytes_in":${bytes_in}`;
  if (bytes_out !== undefined) text += `,"bytes_out":${bytes_out}`;
  if (reason !== undefined) text += `,"reason":${quoted(reason)}`;
  if (why !== undefined) text += `,"why":${quoted(why)}`;
  return `${text},"msg":"${event.event}"}\n`;
}

/** A thousandth is what is measured; Node takes longer to find the shortest text of a number than all else here. */
const thousandths = Array.from({ length: 1_000 }, (_, at) => (at === 0 ? "" : String(at / 1_000).slice(1)));
function decimal(ms: number): string {
  const all = Math.round(ms * 1_000);
  return all >= 0 && all < 1e9 ? `${Math.floor(all / 1_000)}${thousandths[all % 1_000]}` : String(ms);
}

/** What stands for itself in JSON; nearly all is so, and to look costs less than to have it looked through. */
const plain = /^[ !#-[\]-~]*$/;
const quoted = (text: string): string => (plain.test(text) ? `"${text}"` : JSON.stringify(text));
