import assert from "node:assert/strict";
import { test } from "node:test";
import { HearthError } from "@hearth/errors";
import { checkSpecs, checkTimes, maxChecks } from "./check-spec.ts";
import { fieldsNotActedOn, parseMachineConfig } from "./config.ts";

const image = "alpine";
const http = { type: "http", port: 80 } as const;

const refusedAt = (config: object): unknown => {
  try {
    parseMachineConfig({ image, ...config });
  } catch (error) {
    assert.ok(error instanceof HearthError);
    assert.equal(error.code, "invalid_argument");
    assert.ok(error.message.includes(String(error.details?.field)), error.message);
    return error.details?.field;
  }
  return undefined;
};

test("a check that says little has named defaults", () => {
  assert.deepEqual(checkSpecs({ checks: { web: http } }), [
    {
      name: "web",
      intervalMs: checkTimes.interval.defaultMs,
      timeoutMs: checkTimes.timeout.defaultMs,
      graceMs: checkTimes.grace_period.defaultMs,
      probe: { type: "http", port: 80, method: "GET", path: "/", headers: [] },
    },
  ]);
});

test("a check that says everything is read whole", () => {
  const headers = [{ name: "X-A", values: ["1", "2"] }, { name: "Host" }];
  const check = {
    ...{ ...http, interval: "30s", timeout: 2_500_000_000, grace_period: { "time.Duration": 0 } },
    ...{ method: "head", path: "/up?full=1", protocol: "https" },
    ...{ tls_skip_verify: true, tls_server_name: "a.test", headers },
  };
  const [spec] = checkSpecs(parseMachineConfig({ image, checks: { web: check } }));
  assert.deepEqual(spec, {
    ...{ name: "web", intervalMs: 30_000, timeoutMs: 2_500, graceMs: 0 },
    probe: {
      ...{ type: "http", port: 80, method: "HEAD", path: "/up?full=1" },
      tls: { verify: false, serverName: "a.test" },
      headers: [
        { name: "X-A", values: ["1", "2"] },
        { name: "Host", values: [] },
      ],
    },
  });
});

test("checks of services follow those of the machine, with the port of their service and names of their own", () => {
  const services = [
    { internal_port: 8080, checks: [{ type: "http" }, { type: "tcp", port: 9000 }] },
    { internal_port: 5432, checks: [{}] },
  ];
  const checks = { job: { type: "exec", command: ["/bin/true"] } };
  assert.deepEqual(
    checkSpecs(parseMachineConfig({ image, services, checks })).map(({ name, probe }) => [name, probe.type]),
    [
      ["job", "exec"],
      ["servicecheck-00-http-8080", "http"],
      ["servicecheck-01-tcp-9000", "tcp"],
      ["servicecheck-02-tcp-5432", "tcp"],
    ],
  );
});

test("durations are answered as Go strings, also in services", () => {
  const check = { ...http, interval: 30_000_000_000, timeout: "5" };
  const config = parseMachineConfig({
    image,
    checks: { web: check },
    services: [{ internal_port: 1, checks: [check] }],
  });
  assert.deepEqual(config.checks?.web, { ...http, interval: "30s", timeout: "5s" });
  assert.deepEqual(config.services?.[0]?.checks?.[0], { ...http, interval: "30s", timeout: "5s" });
  assert.deepEqual(parseMachineConfig(config), config);
});

test("what cannot be run is refused by its path", () => {
  const one = (check: object) => refusedAt({ checks: { web: check } });
  assert.equal(one({ port: 80 }), "checks.web.type");
  assert.equal(one({ type: "script", port: 80 }), "checks.web.type");
  assert.equal(one({ type: "tcp" }), "checks.web.port");
  assert.equal(one({ ...http, interval: "10ms" }), "checks.web.interval");
  assert.equal(one({ ...http, timeout: "2m" }), "checks.web.timeout");
  assert.equal(one({ ...http, grace_period: "soon" }), "checks.web.grace_period");
  assert.equal(one({ ...http, path: "up" }), "checks.web.path");
  assert.equal(one({ ...http, path: "/a b" }), "checks.web.path");
  assert.equal(one({ ...http, path: "/\r\nX: 1" }), "checks.web.path");
  assert.equal(one({ ...http, method: "CONNECT" }), "checks.web.method");
  assert.equal(one({ ...http, protocol: "ftp" }), "checks.web.protocol");
  assert.equal(one({ ...http, headers: [{ name: "a b" }] }), "checks.web.headers[0].name");
  assert.equal(
    one({ ...http, headers: [{ name: "a", values: ["1\r\nb: 2"] }] }),
    "checks.web.headers[0].values",
  );
  assert.equal(one({ type: "exec" }), "checks.web.command");
  assert.equal(one({ type: "exec", command: [] }), "checks.web.command");
  assert.equal(one({ ...http, command: ["/bin/true"] }), "checks.web.command");
  assert.equal(refusedAt({ checks: { "two words": http } }), "checks.two words");
  const services = [{ internal_port: 80, checks: [{ type: "exec", command: ["a"] }] }];
  assert.equal(refusedAt({ services }), "services[0].checks[0].type");
  const clash = { "servicecheck-00-tcp-80": http };
  assert.equal(
    refusedAt({ checks: clash, services: [{ internal_port: 80, checks: [{}] }] }),
    "services[0].checks[0]",
  );
});

test("a machine has a bounded number of checks", () => {
  const checks = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`c${index}`, http]));
  assert.equal(refusedAt({ checks: checks(maxChecks) }), undefined);
  assert.equal(refusedAt({ checks: checks(maxChecks + 1) }), "checks");
});

test("all of a check has an effect, its kind too", () => {
  const config = parseMachineConfig({ image, checks: { a: { ...http, kind: "readiness" }, b: http } });
  assert.deepEqual(fieldsNotActedOn(config), []);
});
