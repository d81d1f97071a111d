/** What comes in is refused by name, in the wire form of errors. One table, one region. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startRegion, type TestRegion } from "../testing/fixture.ts";

let region: TestRegion;
before(async () => {
  region = await startRegion();
  await region.createApp("web");
});
after(async () => region[Symbol.asyncDispose]());

const machines = "/v1/apps/web/machines";
const one = `${machines}/00000000000000`;
const refused: readonly (readonly [
  what: string,
  method: string,
  path: string,
  body: unknown,
  code: string,
  field?: string,
])[] = [
  ["no JSON", "POST", "/v1/apps", "{", "malformed_json"],
  ["an app with no name", "POST", "/v1/apps", {}, "invalid_argument", "app_name"],
  [
    "an app with a name of two spellings",
    "POST",
    "/v1/apps",
    { name: "a", app_name: "b" },
    "invalid_argument",
    "name",
  ],
  ["an app with capitals", "POST", "/v1/apps", { name: "Web" }, "invalid_argument", "name"],
  [
    "an app with a dot, which would be another key",
    "POST",
    "/v1/apps",
    { name: "a.b" },
    "invalid_argument",
    "name",
  ],
  ["an unknown field", "POST", "/v1/apps", { name: "a", colour: "red" }, "unknown_field", "colour"],
  ["a body that is a list", "POST", "/v1/apps", [], "invalid_argument", "body"],
  ["no config", "POST", machines, {}, "invalid_argument", "config"],
  ["no image", "POST", machines, { config: {} }, "invalid_argument", "config.image"],
  [
    "an unknown field deep down",
    "POST",
    machines,
    { config: { image: "a", init: { cmmd: [] } } },
    "unknown_field",
    "config.init.cmmd",
  ],
  ["a number for a text", "POST", machines, { config: { image: 7 } }, "invalid_argument", "config.image"],
  [
    "a text for a number, which is not coerced",
    "POST",
    machines,
    { config: { image: "a", guest: { cpus: "2" } } },
    "invalid_argument",
    "config.guest.cpus",
  ],
  [
    "an environment that is not text",
    "POST",
    machines,
    { config: { image: "a", env: { A: 1 } } },
    "invalid_argument",
    "config.env.A",
  ],
  [
    "a size nobody knows",
    "POST",
    machines,
    { config: { image: "a", size: "huge" } },
    "invalid_argument",
    "size",
  ],
  [
    "a duration that is none",
    "POST",
    machines,
    { config: { image: "a", stop_config: { timeout: "soon" } } },
    "invalid_argument",
    "stop_config.timeout",
  ],
  [
    "too little memory",
    "POST",
    machines,
    { config: { image: "a", guest: { memory_mb: 8 } } },
    "machine_memory_too_small",
    "guest.memory_mb",
  ],
  [
    "a name that cannot be one",
    "POST",
    machines,
    { name: "-", config: { image: "a" } },
    "invalid_argument",
    "name",
  ],
  [
    "an unknown query parameter",
    "GET",
    `${machines}?includ_deleted=true`,
    undefined,
    "unknown_field",
    "includ_deleted",
  ],
  ["a flag that is none", "GET", `${machines}?summary=perhaps`, undefined, "invalid_argument", "summary"],
  ["a limit that is no number", "GET", `${one}/events?limit=ten`, undefined, "invalid_argument", "limit"],
  ["a limit out of range", "GET", `${one}/events?limit=51`, undefined, "invalid_argument", "limit"],
  [
    "a state that cannot be waited for",
    "GET",
    `${one}/wait?state=happy`,
    undefined,
    "invalid_argument",
    "state[0]",
  ],
  ["no signal", "POST", `${one}/signal`, {}, "invalid_argument", "signal"],
  ["an app that is not there", "GET", "/v1/apps/nowhere/machines", undefined, "app_not_found"],
  ["a path that is not there", "GET", "/v1/nothing", undefined, "not_found"],
];

for (const [what, method, path, body, code, field] of refused)
  test(`refused: ${what}`, async () => {
    const { status, json } = await region.call(method, path, body, { "content-type": "application/json" });
    assert.equal(json.code, code, json.message);
    assert.ok(status >= 400 && status < 500);
    assert.equal(json.error, json.message);
    assert.equal(json.status, "unknown");
    if (field === undefined) return;
    assert.equal(json.details.field, field);
    assert.ok(json.message.includes(field), json.message);
  });

test("what Hearth stores and does not act on is accepted and named", async () => {
  const { status, json } = await region.call("POST", machines, {
    name: "warned",
    config: {
      image: "app:1",
      services: [{ internal_port: 80, protocol: "udp", force_instance_key: null }],
      schedule: "daily",
      statics: [{}],
      checks: null,
    },
    region: "",
    skip_launch: true,
    skip_secrets: false,
    skip_service_registration: true,
    lsvd: false,
  });
  assert.equal(status, 200, JSON.stringify(json));
  assert.deepEqual(
    json.warnings.map(({ field }: { field: string }) => field),
    ["config.services[0].protocol", "config.statics", "skip_service_registration"],
  );
});

test("a body of another type, and one that is too large, are refused", async () => {
  const plain = await region.call("POST", "/v1/apps", "name=a", { "content-type": "text/plain" });
  assert.equal(plain.status, 400);
  assert.match(plain.json.message, /Content-Type: application\/json/);
  const large = await region.call("POST", "/v1/apps", { name: "a".repeat(2 ** 20) });
  assert.equal(large.status, 413);
  assert.equal(large.json.code, "payload_too_large");
});

test("without the token nothing is served but health", async () => {
  const open = await fetch(`${region.url}/v1/health`);
  assert.equal(open.status, 200);
  for (const path of ["/v1/apps", "/v1/nothing", "/v1/nodes"]) {
    const answer = await fetch(`${region.url}${path}`, { headers: { authorization: "Bearer wrong" } });
    assert.equal(answer.status, 401);
    assert.match(((await answer.json()) as { error: string }).error, /^Authenticate: /);
  }
});

test("each request has an id, in its answer and in the log", async () => {
  const { headers } = await region.call("GET", "/v1/apps/web");
  const id = headers.get("fly-request-id");
  assert.match(id ?? "", /^[0-9A-Z]{26}$/);
  const line = region.logs.find(({ request_id }) => request_id === id);
  assert.equal(line?.status, 200);
  assert.equal(line?.app, "web");
});
