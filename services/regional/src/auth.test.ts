import assert from "node:assert/strict";
import { test } from "node:test";
import { authenticate } from "./auth.ts";
import { hashToken } from "./config.ts";

const hash = hashToken("fm2_abc,fm2_def");

test("the token is taken after either scheme, commas and all", () => {
  for (const header of ["Bearer fm2_abc,fm2_def", "FlyV1 fm2_abc,fm2_def", "bearer  fm2_abc,fm2_def "])
    authenticate(header, hash);
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
      () => authenticate(header, hash),
      (error: Error & { code: string }) => error.code === "unauthenticated" && !error.message.includes("fm2"),
    );
});
