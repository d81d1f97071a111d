import assert from "node:assert/strict";
import { test } from "node:test";
import { adminHashes, authenticate } from "./auth.ts";
import { hashToken } from "./config.ts";

const admin = adminHashes({ get: () => undefined }, hashToken("fm2_abc,fm2_def"));

test("the token is taken after either scheme, commas and all", () => {
  for (const header of ["Bearer fm2_abc,fm2_def", "FlyV1 fm2_abc,fm2_def", "bearer  fm2_abc,fm2_def "])
    authenticate(header, admin);
});

test("anything else is refused, and the answer does not repeat it", () => {
  const headers = [
    undefined,
    "",
    "Bearer",
    "Bearer ",
    "Basic fm2_abc,fm2_def",
    "fm2_abc,fm2_def",
    "Bearer fm2_abc",
  ];
  for (const header of headers)
    assert.throws(
      () => authenticate(header, admin),
      (error: Error & { code: string }) => error.code === "unauthenticated" && !error.message.includes("fm2"),
    );
});

test("the token of the first host is taken too, by its hash", () => {
  const value = { sha256: hashToken("first").toString("hex") };
  const both = adminHashes({ get: () => ({ key: "", value, revision: 1 }) }, hashToken("own"));
  for (const token of ["own", "first"]) authenticate(`Bearer ${token}`, both);
  assert.throws(() => authenticate("Bearer other", both));
});
