/**
 * Which service of which machines a request is for: pure over the route table. Whoever asks for a name that nothing
 * has learns that, and nothing of what others have.
 */
import type { Endpoint, PublicPort, Service } from "./endpoint.ts";
import { readHostName } from "./host-name.ts";
import type { RouteTable } from "./route-table.ts";

/** A service of one machine, as a place that a request can be sent to. */
export interface Place {
  readonly endpoint: Endpoint;
  readonly service: Service;
  /** By which it was asked for; undefined where nothing was asked for. */
  readonly port?: PublicPort;
}

export interface Target {
  readonly app: string;
  /** For logs, and for what is counted together. */
  readonly route: string;
  readonly forceHttps: boolean;
  readonly passThrough: boolean;
  readonly places: readonly Place[];
}

export interface Asked {
  readonly host: string;
  readonly domain: string;
  /** The public port as configurations name it: 80 for HTTP and 443 for HTTPS, wherever the door listens. */
  readonly publicPort: number;
  /** Whose a name is that is not below the domain. */
  readonly appOf?: (host: string) => string | undefined;
}

/** Undefined when nothing has this name at this port. */
export function findTarget(
  table: RouteTable,
  { host, domain, publicPort, appOf }: Asked,
): Target | undefined {
  const name = readHostName(host, domain);
  if (name === undefined) {
    const app = appOf?.(host);
    return app === undefined ? undefined : appTarget(table, app, publicPort);
  }
  if (name.kind === "app") return appTarget(table, name.app, publicPort);
  const endpoint = table.machine(name.machineId);
  // An app may be called so as well.
  if (endpoint === undefined) return appTarget(table, `${name.internalPort}-${name.machineId}`, publicPort);
  const service = endpoint.services.find(
    ({ internalPort, ports }) =>
      internalPort === name.internalPort && ports.every(({ handlers }) => handlers.has("http")),
  );
  if (service === undefined) return undefined;
  const route = `${name.internalPort}-${name.machineId}`;
  const [port] = service.ports;
  const place = { endpoint, service, ...(port && { port }) };
  return { app: endpoint.app, route, forceHttps: false, passThrough: false, places: [place] };
}

/** Of an app, at a public port. */
export function appTarget(table: RouteTable, app: string, publicPort: number): Target | undefined {
  const found: (Place & { readonly port: PublicPort })[] = [];
  for (const endpoint of table.ofApp(app))
    for (const service of endpoint.services) {
      const port = service.ports.find(({ first, last }) => first <= publicPort && publicPort <= last);
      if (port !== undefined) found.push({ endpoint, service, port });
    }
  const [first] = found;
  if (first === undefined) return undefined;
  return {
    app,
    route: `${app}:${publicPort}`,
    // During an update both versions are there, and the stricter one counts.
    forceHttps: found.some(({ port }) => port.forceHttps),
    passThrough: !first.port.handlers.has("http") && !first.port.handlers.has("tls"),
    places: found,
  };
}
