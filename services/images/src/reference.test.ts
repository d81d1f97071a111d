import assert from "node:assert/strict";
import { test } from "node:test";
import { HearthError } from "@hearth/errors";
import fc from "fast-check";
import { formatReference, parseReference } from "./reference.ts";

const digest = `sha256:${"a".repeat(64)}`;

test("a reference means what it means to docker", () => {
  const cases: [string, string][] = [
    ["alpine", "docker.io/library/alpine:latest"],
    ["alpine:3.20", "docker.io/library/alpine:3.20"],
    ["user/app", "docker.io/user/app:latest"],
    ["index.docker.io/alpine", "docker.io/library/alpine:latest"],
    ["localhost/app", "localhost/app:latest"],
    ["localhost:5000/a/b/c:v1", "localhost:5000/a/b/c:v1"],
    ["ghcr.io/a/b", "ghcr.io/a/b:latest"],
    ["[::1]:5000/a", "[::1]:5000/a:latest"],
    [`alpine@${digest}`, `docker.io/library/alpine@${digest}`],
    [`alpine:3@${digest}`, `docker.io/library/alpine:3@${digest}`],
  ];
  for (const [text, canonical] of cases) assert.equal(formatReference(parseReference(text)), canonical, text);
});

test("what docker refuses is image_reference_invalid", () => {
  const bad = [
    "",
    "Alpine",
    "a//b",
    "a/",
    "/a",
    "a:",
    "a@sha256:12",
    "a b",
    "../x",
    "a/../b",
    "-a",
    "a:.x",
    "a".repeat(64),
    "x.y/",
    `a@${digest}@${digest}`,
  ];
  for (const text of bad) {
    assert.throws(
      () => parseReference(text),
      (error) => error instanceof HearthError && error.code === "image_reference_invalid",
      text,
    );
  }
});

test("the canonical spelling of any reference parses to the same reference", () => {
  const part = fc.stringMatching(/^[a-z0-9]{1,8}([._-][a-z0-9]{1,4})?$/);
  const name = fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => parts.join("/"));
  const host = fc.constantFrom("", "localhost/", "r.example:5000/", "ghcr.io/");
  const tag = fc.option(fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}$/), { nil: undefined });
  fc.assert(
    fc.property(host, name, tag, fc.boolean(), (prefix, path, version, pinned) => {
      const text = `${prefix}${path}${version === undefined ? "" : `:${version}`}${pinned ? `@${digest}` : ""}`;
      const parsed = parseReference(text);
      assert.deepEqual(parseReference(formatReference(parsed)), parsed);
    }),
  );
});

test("any text either parses or is refused by name", () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 80 }), (text) => {
      try {
        assert.deepEqual(parseReference(formatReference(parseReference(text))), parseReference(text));
      } catch (error) {
        assert.ok(error instanceof HearthError && error.code === "image_reference_invalid");
      }
    }),
  );
});
