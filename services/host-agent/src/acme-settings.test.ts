import assert from "node:assert/strict";
import { test } from "node:test";
import { acmeEnvironment, readAcmeSettings } from "./acme-settings.ts";

const env = {
  HEARTH_ACME_DIRECTORY: "https://ca.test/dir",
  HEARTH_ACME_EMAIL: "ops@example.test",
  HEARTH_ACME_CA: "/etc/ca.pem",
  HEARTH_ACME_CHALLENGE: "tls-alpn-01",
  HEARTH_ACME_EAB_KID: "kid",
  HEARTH_ACME_EAB_KEY_FILE: "/etc/eab.key",
};

test("nothing said is no ACME, and what is said reaches the agent's process as it is", () => {
  assert.equal(readAcmeSettings({}), undefined);
  assert.equal(readAcmeSettings(acmeEnvironment(undefined)), undefined);
  const settings = readAcmeSettings(env);
  assert.deepEqual(settings?.eab, { kid: "kid", key_path: "/etc/eab.key" });
  assert.deepEqual(readAcmeSettings(acmeEnvironment(settings)), settings);
});

test("each setting that is wrong is named", () => {
  for (const [name, value] of [
    ["HEARTH_ACME_DIRECTORY", "http://ca.test/dir"],
    ["HEARTH_ACME_EMAIL", "nobody"],
    ["HEARTH_ACME_CHALLENGE", "dns-01"],
    ["HEARTH_ACME_EAB_KID", ""],
  ] as const)
    assert.throws(() => readAcmeSettings({ ...env, [name]: value }), {
      code: "invalid_argument",
      message: new RegExp(name),
    });
});
