/**
 * What a service asks of the front door at one of its ports, out of its configuration: pure. Names and values were
 * checked when the configuration came in (`parsePortOptions`).
 */
import type { MachineFact } from "@hearth/machine";

export interface HttpOptions {
  /** The guest gets HTTP/2, in clear. */
  readonly h2Backend: boolean;
  /** In which a request moves no byte; the front door's own when absent. */
  readonly idleMs?: number;
  /** Nothing is added to what the guest answers. */
  readonly isPristine: boolean;
  /** Headers of the answer that are taken out, in lower case, and those that are put in: name, value, name, value. */
  readonly removed: ReadonlySet<string>;
  readonly added: readonly string[];
}

export interface PortOptions {
  readonly http: HttpOptions;
  /** The protocols that TLS offers here, the best one first. */
  readonly alpn?: readonly string[];
  /** Of the PROXY protocol, where the port has that handler. */
  readonly proxyVersion: 1 | 2;
}

type PortInput = NonNullable<
  NonNullable<MachineFact["record"]["config"]["services"]>[number]["ports"]
>[number];

const noHttpOptions: HttpOptions = { h2Backend: false, isPristine: false, removed: new Set(), added: [] };

export function portOptionsOf({
  http_options: http,
  tls_options: tls,
  proxy_proto_options: proxy,
}: PortInput): PortOptions {
  return {
    http: http === undefined ? noHttpOptions : httpOptionsOf(http),
    ...(tls?.alpn === undefined || tls.alpn.length === 0 ? {} : { alpn: tls.alpn }),
    proxyVersion: proxy?.version === "v2" ? 2 : 1,
  };
}

function httpOptionsOf(http: NonNullable<PortInput["http_options"]>): HttpOptions {
  const headers = Object.entries(http.response?.headers ?? {});
  return {
    h2Backend: http.h2_backend === true,
    ...(http.idle_timeout ? { idleMs: http.idle_timeout * 1_000 } : {}),
    isPristine: http.response?.pristine === true,
    removed: new Set(headers.map(([name]) => name.toLowerCase())),
    added: headers.flatMap(([name, value]) =>
      value === false ? [] : [value].flat().flatMap((each) => [name, each]),
    ),
  };
}
