/**
 * In which order getaddrinfo tells the addresses of a public name (RFC 6724), by glibc and by musl. A guest's IPv6 address
 * is of its region alone, and its IPv4 address is one that the host translates, so IPv4 comes first: rule 5, labels that
 * match. A private name has an IPv6 address alone.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Fleet, Region } from "@hearth/fleet";
import { until } from "@hearth/testkit";
import { names, places, startInternet } from "./internet.ts";
import { libcImage, makeLibcImage } from "./libc-image.ts";

const skip = process.getuid?.() === 0 ? false : "a fleet needs root";
const programs = ["resolve-glibc", "resolve-musl"];

test("a guest is told the address first that it can reach the world by, whichever its libc", {
  skip,
  timeout: 600_000,
}, async () => {
  const work = mkdtempSync(join(tmpdir(), "hearth-order-"));
  try {
    // Before the platform: compilers would be at work beside it.
    const archive = makeLibcImage(work);
    await using fleet = await Fleet.powerOn(1);
    const host = fleet.host(1);
    await startInternet(host);
    const region = new Region(fleet.hosts, { apis: 1, buses: 1 });
    await region.form();
    await region.importImage(archive, libcImage);
    const ran = await host.hearth(["run", "-d", "--name", "asker", libcImage]);
    assert.equal(ran.code, 0, ran.stderr);
    for (const program of programs) {
      const asked = ["exec", "asker", "--", program, names.allowed, names.below.toUpperCase()];
      const told = await until(`${program} finds a public name`, 60_000, async () => {
        const { stdout } = await host.hearth(asked);
        return stdout.includes("failed") ? undefined : stdout.trim().split("\n");
      });
      assert.deepEqual(
        told,
        [
          `${names.allowed} ${places.one.v4},${places.one.v6}`,
          `${names.below.toUpperCase()} ${places.far.v4},${places.far.v6}`,
        ],
        program,
      );
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
});
