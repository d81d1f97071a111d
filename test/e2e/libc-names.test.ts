/**
 * Names inside a guest by what programs bring along: glibc, musl, and the resolver of Go, which asks for itself. One
 * image holds a program of each, and nothing in it says where to ask.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type Platform, startPlatform, until } from "@hearth/testkit";
import { libcImage, makeLibcImage } from "./libc-image.ts";

const skip = process.getuid?.() === 0 ? false : "needs root";
async function startGuest(platform: Platform, archive: string) {
  const imported = await platform.hearth(["images", "import", archive, "--name", libcImage]);
  assert.equal(imported.code, 0, imported.stderr);
  const ran = await platform.hearth(["run", "-d", "--name", "asker", libcImage]);
  assert.equal(ran.code, 0, ran.stderr);
  const app: string = (await platform.call("GET", "/v1/apps")).body.apps[0].name;
  const [machine] = (await platform.call("GET", `/v1/apps/${app}/machines`)).body;
  const inside = async (script: string): Promise<string> => {
    const { stdout, stderr } = await platform.hearth(["exec", "asker", "--", "sh", "-c", script]);
    return stdout + stderr;
  };
  return { app, id: machine.id as string, address: machine.private_ip as string, inside };
}

test("glibc, musl and Go find the names of a guest's network with nothing configured", {
  skip,
  timeout: 600_000,
}, async () => {
  const work = mkdtempSync(join(tmpdir(), "hearth-libc-"));
  // Before the platform: compilers would be at work beside it.
  const archive = makeLibcImage(work);
  const platform = await startPlatform();
  try {
    const { app, id, address, inside } = await startGuest(platform, archive);
    const names = [`${app}.internal`, `${id}.vm.${app}.internal`];
    for (const libc of ["glibc", "musl"]) {
      const asked = `resolve-${libc} ${names.join(" ")} ${names[0]?.toUpperCase()} nobody.internal localhost`;
      const [app_, own, upper, nobody, local] = await until(`names by ${libc}`, 60_000, async () => {
        const lines = (await inside(asked)).trim().split("\n");
        return lines[0]?.endsWith(address) ? lines : undefined;
      });
      assert.equal(app_, `${names[0]} ${address}`, libc);
      assert.equal(own, `${names[1]} ${address}`, libc);
      assert.equal(upper, `${names[0]?.toUpperCase()} ${address}`, libc);
      assert.match(nobody ?? "", /^nobody\.internal failed: /, libc);
      assert.match(local ?? "", /^localhost (127\.0\.0\.1|::1)/, libc);
    }
    // It asks for the address of another server by Go's own resolver, and says where it tried to connect to.
    const config = `listen: "127.0.0.1:4222", cluster { name: x, listen: "127.0.0.1:6222", routes: ["nats://${names[0]}:7"] }`;
    const said = await inside(
      `printf '%s' '${config}' >/tmp/nats.conf; GODEBUG=netdns=go+1 timeout 20 nats-server -c /tmp/nats.conf 2>&1 |
       grep -m 2 -e 'go package net' -e 'dial tcp'`,
    );
    assert.match(said, /using Go's DNS resolver|GODEBUG setting forcing use of Go's resolver/, said);
    assert.ok(said.includes(`dial tcp [${address}]:7:`), said);
  } finally {
    await platform.down();
    rmSync(work, { recursive: true, force: true });
  }
  assert.deepEqual(platform.hostResources(), []);
});
