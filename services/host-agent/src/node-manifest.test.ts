import assert from "node:assert/strict";
import { test } from "node:test";
import { planManifest } from "./node-manifest.ts";
import { readSettings } from "./settings.ts";

test("services are told of what was built for the host, by where it is", () => {
  const settings = readSettings({}, { HEARTH_ASSETS: "/somewhere" });
  const host = { cpus: 2, totalMemoryMb: 4_096, nameservers: [], hasCgroupV2: true, isRoot: true };
  const { assets } = planManifest({
    settings,
    identity: { node_id: "n1", host_number: 1, prefix: "fd12:3456:789a::/48" },
    host: { ...host, missingPrograms: [] },
    kvm: { usable: true, reason: "" },
    busServers: [],
  });
  assert.deepEqual(assets, {
    kernel: "/somewhere/vmlinux",
    initrd: "/somewhere/initrd.cpio",
    guard: "/somewhere/vm-guard",
    datagrams: "/somewhere/datagrams.node",
  });
});
