/**
 * What a service asks of the front door at one of its ports: the schema of it, what the schema cannot say, and what of
 * it has no effect.
 */
import { HearthError } from "@hearth/errors";
import Type, { type Static } from "typebox";

const closed = { additionalProperties: false } as const;
const opt = Type.Optional;
const flag = opt(Type.Boolean());
const seconds = opt(Type.Integer({ minimum: 0, maximum: 86_400 }));
const port = Type.Integer({ minimum: 1, maximum: 65_535 });
const texts = opt(Type.Array(Type.String()));

/** `false` takes a header out of the answer; a text, or several, take its place. */
const HeaderWish = Type.Union([
  Type.Literal(false),
  Type.String(),
  Type.Array(Type.String(), { maxItems: 16 }),
]);

const HttpOptions = Type.Object(
  {
    compress: flag,
    /** The guest gets HTTP/2, in clear and with prior knowledge, as gRPC needs it. */
    h2_backend: flag,
    headers_read_timeout: seconds,
    idle_timeout: seconds,
    replay_cache: opt(Type.Unknown()),
    response: opt(
      Type.Object(
        { headers: opt(Type.Record(Type.String(), HeaderWish, { maxProperties: 64 })), pristine: flag },
        closed,
      ),
    ),
  },
  closed,
);

const protocolName = Type.String({ minLength: 1, maxLength: 255 });
const TlsOptions = Type.Object(
  { alpn: opt(Type.Array(protocolName, { maxItems: 16 })), versions: texts, default_self_signed: flag },
  closed,
);

const ProxyProtoOptions = Type.Object(
  { version: opt(Type.Unsafe<"v1" | "v2">(Type.Enum(["v1", "v2"]))) },
  closed,
);

export const ServicePort = Type.Object(
  {
    port: opt(port),
    start_port: opt(port),
    end_port: opt(port),
    handlers: texts,
    force_https: flag,
    tls_options: opt(TlsOptions),
    http_options: opt(HttpOptions),
    proxy_proto_options: opt(ProxyProtoOptions),
  },
  closed,
);
export type ServicePort = Static<typeof ServicePort>;

const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$/;
const fieldValue = /^[\t\x20-\x7e\x80-\xff]{0,8192}$/;
/** What frames an answer or belongs to one connection is nobody's to write. */
const framing: ReadonlySet<string> = new Set([
  ...["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"],
  ...["content-length", "content-range", "date"],
]);

/** @throws HearthError `invalid_argument` */
export function checkPort(
  { http_options: http, tls_options: tls, handlers = [] }: ServicePort,
  at: string,
): void {
  for (const [name, value] of Object.entries(http?.response?.headers ?? {})) {
    const field = `${at}.http_options.response.headers.${name}`;
    if (!token.test(name)) throw invalid(field, "has a name that no header has");
    if (framing.has(name.toLowerCase())) throw invalid(field, "is written by the front door alone");
    for (const each of value === false ? [] : [value].flat())
      if (!fieldValue.test(each)) throw invalid(field, "has a value that no header may have");
  }
  const isHttp = handlers.includes("http");
  for (const each of tls?.alpn ?? [])
    if (isHttp && each !== "h2" && each !== "http/1.1")
      throw invalid(`${at}.tls_options.alpn`, `has ${each}; the http handler speaks h2 and http/1.1`);
}

const invalid = (field: string, problem: string): HearthError =>
  new HearthError("invalid_argument", { message: `${field} ${problem}.`, details: { field } });

const httpNotActedOn = ["compress", "headers_read_timeout", "replay_cache"] as const;
const tlsNotActedOn = ["versions", "default_self_signed"] as const;

/** The fields of a port that are kept and have no effect. */
export function portFieldsNotActedOn({
  http_options: http = {},
  tls_options: tls = {},
  proxy_proto_options: proxy = {},
  handlers = [],
}: ServicePort): string[] {
  const has = (handler: string): boolean => handlers.includes(handler);
  const isSet = (value: unknown): boolean => value !== undefined && value !== false && value !== 0;
  const httpSet = Object.keys(http).filter((name) => isSet(http[name as keyof typeof http]));
  const tlsSet = Object.keys(tls).filter((name) => isSet(tls[name as keyof typeof tls]));
  const without = (names: readonly string[], acted: boolean, dead: readonly string[]): string[] =>
    names.filter((name) => !acted || dead.includes(name));
  return [
    ...without(httpSet, has("http"), httpNotActedOn).map((name) => `http_options.${name}`),
    ...without(tlsSet, has("tls"), tlsNotActedOn).map((name) => `tls_options.${name}`),
    ...(isSet(proxy.version) && !has("proxy_proto") ? ["proxy_proto_options.version"] : []),
    // A request of HTTP tells the guest by its headers who the client is.
    ...(handlers.every(
      (name) => name === "http" || name === "tls" || (name === "proxy_proto" && !has("http")),
    )
      ? []
      : ["handlers"]),
  ];
}
