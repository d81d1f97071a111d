import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { isServiceProgram, serviceProgram } from "./service-program.ts";

function checkout(context: { after(done: () => void): void }) {
  const directory = mkdtempSync(join(tmpdir(), "hearth-bundles-"));
  context.after(() => rmSync(directory, { recursive: true }));
  const servicesDir = join(directory, "services");
  const bundlesDir = join(directory, ".hearth/services");
  const source = join(servicesDir, "worker/src/main.ts");
  const other = join(directory, "packages.ts");
  const bundle = join(bundlesDir, "worker.mjs");
  mkdirSync(join(servicesDir, "worker/src"), { recursive: true });
  mkdirSync(bundlesDir, { recursive: true });
  for (const path of [source, other]) writeFileSync(path, "");
  const make = () => {
    writeFileSync(bundle, "");
    writeFileSync(`${bundle}.inputs.json`, JSON.stringify({ entry: source, sources: [source, other] }));
  };
  return {
    program: () => serviceProgram({ servicesDir, bundlesDir }, "worker"),
    make,
    source,
    other,
    bundle,
  };
}

test("a service without a bundle is started from its source", (context) => {
  const { program, source } = checkout(context);
  assert.equal(program(), source);
});

test("a bundle is used until one of its sources is newer or gone", (context) => {
  const { program, make, source, other, bundle } = checkout(context);
  make();
  assert.equal(program(), bundle);
  const later = new Date(Date.now() + 5_000);
  utimesSync(other, later, later);
  assert.equal(program(), source);
  const earlier = new Date(Date.now() - 5_000);
  utimesSync(other, earlier, earlier);
  assert.equal(program(), bundle);
  rmSync(other);
  assert.equal(program(), source);
});

test("a bundle of another checkout is not used", (context) => {
  const { make, bundle } = checkout(context);
  make();
  const elsewhere = { servicesDir: "/elsewhere/services", bundlesDir: join(bundle, "..") };
  assert.equal(serviceProgram(elsewhere, "worker"), "/elsewhere/services/worker/src/main.ts");
});

test("a service is known by its program, whichever way it was started", (context) => {
  const { source, bundle } = checkout(context);
  assert.ok(isServiceProgram(source, "worker"));
  assert.ok(isServiceProgram(bundle, "worker"));
  assert.ok(!isServiceProgram(bundle, "images"));
});
