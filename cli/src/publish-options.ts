/**
 * Services of a machine, as options: which of the front door's ports lead to which of the machine's. The form is that of
 * flyctl's `machine run --port`. Pure.
 */
import type { CreateMachine } from "@hearth/sdk";
import type { Command } from "commander";
import { usage } from "./failure.ts";
import { repeated } from "./options.ts";

export interface PublishOptions {
  readonly port?: readonly string[];
  /** Stopped when nobody needs it. */
  readonly autostop?: boolean;
  /** False with --no-autostart. */
  readonly autostart?: boolean;
}

type Service = NonNullable<CreateMachine["config"]["services"]>[number];
type ServicePort = NonNullable<Service["ports"]>[number];

export const addPublishOptions = (command: Command): Command =>
  command
    .option("-p, --port <port>", "publish it: PORT[:INTERNAL][/tcp[:HANDLER...]]", repeated)
    .option("--autostop", "stop it when no request came for a while")
    .option("--no-autostart", "no request starts it when it is stopped");

export const publishHelp = `
-p 443:8080 has the front door lead https://<app>.<domain> to the machine's port 8080. Without handlers port 80 speaks
http, 443 tls and http, and any other is raw TCP; a range is written 7000-7009. Handlers: http, tls, proxy_proto.`;

/**
 * Undefined when nothing is published.
 * @throws Failure that names what was typed
 */
export function servicesOf({ port, autostop, autostart }: PublishOptions): Service[] | undefined {
  if (port === undefined) {
    if (autostop !== undefined || autostart === false)
      throw usage("--autostop and --no-autostart are about requests; publish a port with -p as well.");
    return undefined;
  }
  const services = new Map<number, ServicePort[]>();
  const taken = new Set<number>();
  for (const text of port) {
    const { from, to, internal, handlers } = parse(text);
    for (let each = from; each <= to; each += 1) {
      if (taken.has(each)) throw usage(`-p ${text}: port ${each} is there twice; a port leads to one place.`);
      taken.add(each);
    }
    const where = from === to ? { port: from } : { start_port: from, end_port: to };
    services.set(internal, [...(services.get(internal) ?? []), { ...where, handlers }]);
  }
  return [...services].map(([internal_port, ports]) => ({
    ...{ protocol: "tcp", internal_port, ports },
    autostart: autostart !== false,
    autostop: autostop === true ? "stop" : "off",
  }));
}

const form = /^(\d{1,5})(?:-(\d{1,5}))?(?::(\d{1,5}))?(?:\/([a-z]+)((?::[a-z_]+)*))?$/;
const known = ["http", "tls", "proxy_proto"];

function parse(text: string) {
  const found = form.exec(text);
  if (found === null)
    throw usage(`-p ${text} is no port; write it as 443:8080, or PORT[:INTERNAL][/tcp[:HANDLER...]].`);
  const [, first = "", last, inside, protocol = "tcp", words] = found;
  const [from, to] = [Number(first), Number(last ?? first)];
  if (to > from && inside === undefined)
    throw usage(`-p ${text}: all ports of a range lead to one of the machine; name it, as in ${text}:7000.`);
  const internal = Number(inside ?? first);
  if ([from, to, internal].some((each) => each < 1 || each > 65_535) || to < from)
    throw usage(`-p ${text}: ports are 1 to 65535, and of a range the lower one comes first.`);
  if (protocol !== "tcp") throw usage(`-p ${text}: the front door takes tcp, and no ${protocol}.`);
  const handlers = words === undefined ? usual(from, to) : words.split(":").slice(1);
  const unknown = handlers.find((each) => !known.includes(each));
  if (unknown !== undefined)
    throw usage(`-p ${text}: there is no handler ${unknown}; there are ${known.join(", ")}.`);
  return { from, to, internal, handlers };
}

const usual = (from: number, to: number): string[] => {
  if (from !== to) return [];
  return from === 80 ? ["http"] : from === 443 ? ["tls", "http"] : [];
};
