import assert from "node:assert/strict";
import { test } from "node:test";
import { HearthError } from "@hearth/errors";
import { parseMachineConfig } from "./config.ts";
import { maxEgressRules, mergeEgress, parseEgressPolicy, parseEgressRule } from "./egress.ts";

const rule = (text: string) => parseEgressRule(text, "egress.allowOut.0");
const block = (family: 4 | 6, cidr: string) => ({ kind: "block", family, cidr });

test("an entry is an address, a block or a domain, with a protocol and ports", () => {
  assert.deepEqual(rule("203.0.113.9"), { target: block(4, "203.0.113.9/32") });
  assert.deepEqual(rule("203.0.113.9/24"), { target: block(4, "203.0.113.0/24") });
  assert.deepEqual(rule("0.0.0.0/0"), { target: block(4, "0.0.0.0/0") });
  assert.deepEqual(rule("::/0"), { target: block(6, "::/0") });
  assert.deepEqual(rule("2001:DB8:1::5/32"), { target: block(6, "2001:db8::/32") });
  assert.deepEqual(rule("2001:db8::443"), { target: block(6, "2001:db8::443/128") });
  const https = { from: 443, to: 443 };
  assert.deepEqual(rule("[2001:db8::1]:443"), {
    target: block(6, "2001:db8::1/128"),
    ...{ protocol: "tcp", ports: https },
  });
  assert.deepEqual(rule("udp:198.51.100.0/25:5000-5010"), {
    target: block(4, "198.51.100.0/25"),
    ...{ protocol: "udp", ports: { from: 5000, to: 5010 } },
  });
  assert.deepEqual(rule("*.Example.com:443"), {
    target: { kind: "domain", domain: "*.example.com" },
    ...{ protocol: "tcp", ports: https },
  });
});

for (const text of [
  ...["", "1.2.3", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/8/8", "999.1.1.1", "2001:db8::/129", "fe80::1%eth0"],
  ...[
    "a..b",
    "-a.com",
    "a.*.com",
    "*",
    "localhost",
    "a_b c.com",
    "1.2.3.4:0",
    "1.2.3.4:70000",
    "1.2.3.4:9-8",
  ],
  ...[
    "icmp:1.2.3.4",
    "[1.2.3.4",
    `${"a".repeat(64)}.com`,
    "1.2.3.4; drop",
    "a.com/24",
    "a.com:80-90",
    "udp:a.com",
  ],
])
  test(`"${text}" is refused by the name of its field`, () => {
    assert.throws(
      () => rule(text),
      (thrown: HearthError) => {
        assert.equal(thrown.code, "invalid_argument");
        assert.equal(thrown.details?.field, "egress.allowOut.0");
        return true;
      },
    );
  });

test("a machine's configuration is refused with the path of a bad entry", () => {
  const config = { image: "app:1", network: { denyOut: ["10.0.0.0/99"] } };
  assert.throws(() => parseMachineConfig(config), {
    code: "invalid_argument",
    details: { field: "network.denyOut.0" },
  });
});

test("domains are not denied, and a policy has a limit", () => {
  assert.throws(() => parseEgressPolicy({ denyOut: ["example.com"] }), /egress.denyOut.0 is a domain/);
  const many = Array.from({ length: maxEgressRules }, (_, index) => `192.0.2.${index}`);
  assert.equal(parseEgressPolicy({ allowOut: many }).allow.length, maxEgressRules);
  assert.throws(() => parseEgressPolicy({ allowOut: many, denyOut: ["::/0"] }), HearthError);
});

test("no access to the internet is a deny of all, in both families", () => {
  const { deny } = parseEgressPolicy({ allow_internet_access: false });
  assert.deepEqual(
    deny.map(({ target }) => target),
    [block(4, "0.0.0.0/0"), block(6, "::/0")],
  );
});

test("`all` is everywhere, and who denies all of IPv4 is not left with IPv6", () => {
  const targets = (input: object, list: "allow" | "deny") =>
    parseEgressPolicy(input)[list].map(({ target, ...rest }) => [
      target.kind === "block" ? target.cidr : target.domain,
      rest,
    ]);
  const both = (rest: object) => [
    ["0.0.0.0/0", rest],
    ["::/0", rest],
  ];
  assert.deepEqual(targets({ denyOut: ["all"] }, "deny"), both({}));
  assert.deepEqual(targets({ denyOut: ["0.0.0.0/0"] }, "deny"), both({}));
  const smtp = { protocol: "tcp", ports: { from: 25, to: 25 } };
  assert.deepEqual(targets({ denyOut: ["0.0.0.0/0:25"] }, "deny"), both(smtp));
  assert.deepEqual(targets({ allowOut: ["all:25"] }, "allow"), both(smtp));
  assert.deepEqual(targets({ denyOut: ["udp:all"] }, "deny"), both({ protocol: "udp" }));
  assert.deepEqual(targets({ denyOut: ["::/0"] }, "deny"), [["::/0", {}]]);
  assert.deepEqual(targets({ allowOut: ["0.0.0.0/0"] }, "allow"), [["0.0.0.0/0", {}]]);
  assert.deepEqual(targets({ allowOut: ["all.example.com"] }, "allow"), [["all.example.com", {}]]);
  for (const bad of ["all:0", "all:x", "all/8"])
    assert.throws(() => parseEgressPolicy({ denyOut: [bad] }), { details: { field: "egress.denyOut.0" } });
});

test("what the machine says of a list replaces what the app says of it", () => {
  const app = { allowOut: ["1.1.1.1"], denyOut: ["0.0.0.0/0"] };
  assert.deepEqual(mergeEgress(app, undefined), app);
  assert.deepEqual(mergeEgress(app, { allowOut: [] }), { allowOut: [], denyOut: ["0.0.0.0/0"] });
  assert.deepEqual(mergeEgress(undefined, undefined), {});
});
