import assert from "node:assert/strict";
import { test } from "node:test";
import { HearthError } from "@hearth/errors";
import { fieldsNotActedOn, parseMachineConfig } from "./config.ts";

const withPort = (port: object) => ({
  image: "x",
  services: [{ internal_port: 80, ports: [{ port: 443, handlers: ["tls", "http"], ...port }] }],
});
const withHeaders = (headers: object) => withPort({ http_options: { response: { headers } } });

test("what a port asks of the front door is taken, or refused by the name of its field", () => {
  parseMachineConfig(
    withPort({
      http_options: {
        ...{ h2_backend: true, idle_timeout: 600, compress: true, headers_read_timeout: 5 },
        response: { pristine: true, headers: { Server: false, "X-A": "1", "X-B": ["1", "2"] } },
      },
      tls_options: { alpn: ["h2", "http/1.1"], versions: ["TLSv1.3"] },
    }),
  );
  parseMachineConfig(withPort({ handlers: ["proxy_proto"], proxy_proto_options: { version: "v2" } }));
  const at = "services[0].ports[0]";
  const refused: [object, string, string][] = [
    [withPort({ http_options: { h2_backend: "yes" } }), "invalid_argument", `${at}.http_options.h2_backend`],
    [withPort({ http_options: { h2: true } }), "unknown_field", `${at}.http_options.h2`],
    [withPort({ http_options: { idle_timeout: -1 } }), "invalid_argument", `${at}.http_options.idle_timeout`],
    [withPort({ tls_options: { alpn: ["mqtt"] } }), "invalid_argument", `${at}.tls_options.alpn`],
    [
      withPort({ proxy_proto_options: { version: "v3" } }),
      "invalid_argument",
      `${at}.proxy_proto_options.version`,
    ],
    [withHeaders({ "x y": "1" }), "invalid_argument", `${at}.http_options.response.headers.x y`],
    [withHeaders({ "X-A": "1\r\nX-B: 2" }), "invalid_argument", `${at}.http_options.response.headers.X-A`],
    [withHeaders({ "X-A": true }), "invalid_argument", `${at}.http_options.response.headers.X-A`],
    [
      withHeaders({ "Content-Length": "1" }),
      "invalid_argument",
      `${at}.http_options.response.headers.Content-Length`,
    ],
    [
      withHeaders({ "transfer-encoding": false }),
      "invalid_argument",
      `${at}.http_options.response.headers.transfer-encoding`,
    ],
  ];
  for (const [config, code, field] of refused)
    assert.throws(
      () => parseMachineConfig(config),
      (error) => error instanceof HearthError && error.code === code && error.details?.field === field,
      field,
    );
});

test("what of it has no effect is named, and what has is not", () => {
  const dead = (port: object): string[] =>
    fieldsNotActedOn(parseMachineConfig(withPort(port))).map((field) =>
      field.replace("services[0].ports[0].", ""),
    );
  const http = {
    h2_backend: true,
    idle_timeout: 5,
    response: { pristine: true },
    compress: true,
    headers_read_timeout: 1,
  };
  assert.deepEqual(dead({ http_options: http }), [
    "http_options.compress",
    "http_options.headers_read_timeout",
  ]);
  assert.deepEqual(dead({ http_options: { compress: false } }), []);
  assert.deepEqual(dead({ tls_options: { alpn: ["h2"], versions: ["TLSv1.3"] } }), ["tls_options.versions"]);
  assert.deepEqual(dead({ handlers: ["tls"], http_options: { h2_backend: true } }), [
    "http_options.h2_backend",
  ]);
  assert.deepEqual(dead({ handlers: ["proxy_proto"], proxy_proto_options: { version: "v2" } }), []);
  assert.deepEqual(dead({ handlers: ["tls", "proxy_proto"] }), []);
  assert.deepEqual(dead({ handlers: ["http", "proxy_proto"] }), ["handlers"]);
  assert.deepEqual(dead({ proxy_proto_options: { version: "v2" } }), ["proxy_proto_options.version"]);
  assert.deepEqual(dead({ handlers: ["pg_tls"] }), ["handlers"]);
});
