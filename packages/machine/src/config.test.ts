import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fieldsNotActedOn, parseMachineConfig, sizePresets } from "./config.ts";

const image = "registry.example/app:1";

test("a bare image gets the smallest size", () => {
  const config = parseMachineConfig({ image });
  assert.deepEqual(config, { image, guest: { cpu_kind: "shared", cpus: 1, memory_mb: 256 } });
});

test("a size is expanded into guest, and guest has the last word", () => {
  assert.deepEqual(
    parseMachineConfig({ image, size: "performance-4x" }).guest,
    sizePresets.get("performance-4x"),
  );
  assert.equal(
    parseMachineConfig({ image, size: "shared-cpu-2x", guest: { memory_mb: 1024 } }).guest.memory_mb,
    1024,
  );
});

test("errors name the field", () => {
  const cases: [unknown, string, string][] = [
    [{}, "invalid_argument", "image"],
    ["text", "invalid_argument", "config"],
    [{ image, imagee: 1 }, "unknown_field", "imagee"],
    [{ image, guest: { cpu: 1 } }, "unknown_field", "guest.cpu"],
    [{ image, services: [{ ports: [{ prt: 1 }] }] }, "unknown_field", "services[0].ports[0].prt"],
    [{ image, env: { A: 1 } }, "invalid_argument", "env.A"],
    [{ image, env: { "A=B": "1" } }, "invalid_argument", "env.A=B"],
    [{ image, guest: { cpus: 65 } }, "invalid_argument", "guest.cpus"],
    [{ image, guest: { cpus: "2" } }, "invalid_argument", "guest.cpus"],
    [{ image, guest: { memory_mb: 63 } }, "machine_memory_too_small", "guest.memory_mb"],
    [{ image, guest: { persist_rootfs: "maybe" } }, "invalid_argument", "guest.persist_rootfs"],
    [{ image, size: "huge" }, "invalid_argument", "size"],
    [{ image, restart: { policy: "sometimes" } }, "invalid_argument", "restart.policy"],
    [{ image, stop_config: { timeout: "soon" } }, "invalid_argument", "stop_config.timeout"],
    [{ image, stop_config: { timeout: true } }, "invalid_argument", "stop_config.timeout"],
    [{ image, files: [{ guest_path: "etc/x", raw_value: "" }] }, "invalid_argument", "files[0].guest_path"],
    [{ image, files: [{ guest_path: "/etc/x", raw_value: "%" }] }, "invalid_argument", "files[0].raw_value"],
    [{ image, files: [{ guest_path: "/etc/x" }] }, "invalid_argument", "files[0]"],
  ];
  for (const [input, code, field] of cases)
    assert.throws(
      () => parseMachineConfig(input),
      (error: { code?: string; details?: { field?: string } }) => {
        assert.deepEqual([error.code, error.details?.field], [code, field], JSON.stringify(input));
        return true;
      },
    );
});

test("null counts as absent", () => {
  assert.deepEqual(parseMachineConfig({ image, services: null, init: { exec: null } }).init, {});
});

test("every form of a stop timeout ends as a Go string", () => {
  for (const timeout of ["5s", "5", 5_000_000_000, { "time.Duration": 5_000_000_000 }])
    assert.equal(parseMachineConfig({ image, stop_config: { timeout } }).stop_config?.timeout, "5s");
});

test("fields that have no effect yet are named for a warning", () => {
  const config = parseMachineConfig({
    image,
    env: { A: "1" },
    services: [{ internal_port: 80, autostop: "suspend", ports: [{ port: 443, handlers: ["tls"] }] }],
    schedule: "daily",
    statics: [{}],
    mounts: [],
    spot: false,
    dns: { skip_registration: true },
  });
  assert.deepEqual(fieldsNotActedOn(config), ["dns", "services[0].autostop", "statics"]);
});

test("parsing what was parsed changes nothing", () => {
  fc.assert(
    fc.property(fc.constantFrom(...sizePresets.keys()), fc.nat(1e6), (size, timeoutS) => {
      const once = parseMachineConfig({ image, size, stop_config: { timeout: `${timeoutS}s` } });
      assert.deepEqual(parseMachineConfig(once), once);
    }),
  );
});

test("no input makes the parser fail in any other way than by name", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (input) => {
      const body =
        typeof input === "object" && input !== null && !Array.isArray(input) ? { image, ...input } : input;
      try {
        parseMachineConfig(body);
      } catch (error) {
        assert.equal((error as Error).name, "HearthError");
      }
    }),
  );
});

test("restart_elsewhere is a yes or no, and is refused with what stays on a host or must not be done twice", () => {
  assert.equal(parseMachineConfig({ image, restart_elsewhere: true }).restart_elsewhere, true);
  assert.equal(parseMachineConfig({ image, restart_elsewhere: false }).restart_elsewhere, false);
  assert.equal(parseMachineConfig({ image }).restart_elsewhere, undefined);
  const refused = (more: object, text: RegExp) =>
    assert.throws(
      () => parseMachineConfig({ image, restart_elsewhere: true, ...more }),
      (error: { code?: string; message?: string; details?: { field?: string } }) => {
        assert.equal(error.code, "invalid_argument");
        assert.match(error.message ?? "", text);
        return true;
      },
    );
  for (const value of ["true", 1, {}, []]) refused({ restart_elsewhere: value }, /restart_elsewhere/);
  refused({ mounts: [{ volume: "vol_1", path: "/data" }] }, /mounts: a volume stays/);
  for (const kept of ["restart", "always"])
    refused({ guest: { persist_rootfs: kept } }, /persist_rootfs: the disk stays/);
  refused({ auto_destroy: true }, /auto_destroy/);
  const single = { mounts: [], guest: { persist_rootfs: "never" }, auto_destroy: false };
  assert.equal(parseMachineConfig({ image, restart_elsewhere: true, ...single }).restart_elsewhere, true);
});
