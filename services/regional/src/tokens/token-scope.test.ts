import assert from "node:assert/strict";
import { test } from "node:test";
import type { HearthError } from "@hearth/errors";
import { type TokenScope, tokenVerbs } from "@hearth/machine";
import fc from "fast-check";
import {
  everything,
  isUnrestricted,
  isWithin,
  narrow,
  permitsApp,
  permitsMachine,
  tokenLevelNames,
  tokenLevels,
  type WantedScope,
} from "./token-scope.ts";

const few = (...from: string[]) =>
  fc.option(fc.uniqueArray(fc.constantFrom(...from), { minLength: 1 }), { nil: undefined });
const wantedScope: fc.Arbitrary<WantedScope> = fc.record({
  verbs: fc.option(fc.uniqueArray(fc.constantFrom(...tokenVerbs), { minLength: 1 }), { nil: undefined }),
  org: fc.option(fc.constantFrom("o1", "o2"), { nil: undefined }),
  apps: few("a", "b", "c"),
  machines: few("1", "2", "3"),
});
const orgs = ["o1", "o2", "o3"];
const apps = ["a", "b", "c", "d"];
const machines = ["1", "2", "3", "4"];

/** All that a scope permits, as texts. */
function permitted(scope: TokenScope): Set<string> {
  const where = isUnrestricted(scope) ? ["region"] : [];
  for (const org_slug of orgs)
    for (const name of apps) {
      const app = { name, org_slug };
      if (permitsApp(scope, app)) where.push(`${org_slug}/${name}`);
      for (const id of machines) if (permitsMachine(scope, app, id)) where.push(`${org_slug}/${name}/${id}`);
    }
  return new Set(scope.verbs.flatMap((verb) => where.map((each) => `${verb} ${each}`)));
}

test("what is issued never permits what its parent does not, however long the chain", () => {
  fc.assert(
    fc.property(fc.array(wantedScope, { minLength: 1, maxLength: 5 }), (chain) => {
      let parent: TokenScope = everything;
      for (const wanted of chain) {
        let child: TokenScope;
        try {
          child = narrow(parent, wanted);
        } catch (error) {
          assert.equal((error as HearthError).code, "permission_denied");
          continue;
        }
        const outer = permitted(parent);
        for (const each of permitted(child)) assert.ok(outer.has(each), each);
        assert.ok(isWithin(child, parent));
        parent = child;
      }
    }),
    { numRuns: 500 },
  );
});

test("a scope that is within another permits nothing else", () => {
  const scope = wantedScope.map((wanted) => narrow(everything, wanted));
  fc.assert(
    fc.property(scope, scope, (inner, outer) => {
      if (!isWithin(inner, outer)) return;
      const all = permitted(outer);
      for (const each of permitted(inner)) assert.ok(all.has(each), each);
    }),
    { numRuns: 2000 },
  );
});

test("what is wider is named", () => {
  const parent = { verbs: ["read"], org: "o1", apps: ["a"] } as const;
  assert.throws(
    () => narrow(parent, { verbs: ["read", "deploy"], org: "o2", apps: ["a", "b"] }),
    (error: HearthError) => {
      assert.deepEqual(error.details?.wider, ["verb deploy", "app b", "org o2"]);
      return error.code === "permission_denied" && error.message.includes("app b");
    },
  );
});

test("each level holds the one before it, and admin is everything", () => {
  let before: readonly string[] = [];
  for (const level of tokenLevelNames) {
    assert.ok(before.every((verb) => (tokenLevels[level] as readonly string[]).includes(verb)));
    before = tokenLevels[level];
  }
  assert.deepEqual(before, [...tokenVerbs]);
});
