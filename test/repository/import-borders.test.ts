/**
 * The borders of ARCHITECTURE.md, held by a test: a service imports no other service, and whoever uses a
 * package goes through its one door.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { test } from "node:test";
import { borderViolations, type SourceImport } from "./import-borders.ts";
import { repositoryRoot, sourceFiles } from "./source-files.ts";

const importPattern = /(?:from\s+|import\s*\(?\s*)["']([^"']+)["']/g;

async function importsOf(file: string): Promise<SourceImport[]> {
  const text = await readFile(resolve(repositoryRoot, file), "utf8");
  return [...text.matchAll(importPattern)].map(([, specifier = ""]) => {
    const target = specifier.startsWith(".")
      ? resolve(repositoryRoot, dirname(file), specifier).slice(repositoryRoot.length + 1)
      : specifier;
    return { file, target };
  });
}

test("no service imports a service, and packages are entered through mod.ts", async () => {
  const imports = (await Promise.all((await sourceFiles()).map(importsOf))).flat();
  assert.ok(imports.length > 0, "the scan found no imports at all");
  assert.deepEqual(borderViolations(imports), []);
});

test("the lint refuses what it must refuse", () => {
  const refused: SourceImport[] = [
    { file: "services/worker/src/main.ts", target: "services/images/src/image-store.ts" },
    { file: "services/worker/src/main.ts", target: "@hearth/images" },
    { file: "services/worker/src/main.ts", target: "packages/vmm/mod.ts" },
    { file: "services/worker/src/main.ts", target: "@hearth/vmm/src/port.ts" },
    { file: "services/worker/src/main.ts", target: "@hearth/host-agent" },
    { file: "cli/src/images.ts", target: "@hearth/images" },
    { file: "packages/vmm/src/port.ts", target: "packages/guest/src/channel.ts" },
    { file: "packages/vmm/src/port.ts", target: "services/worker/src/main.ts" },
    { file: "drill/mod.ts", target: "services/worker/src/drill/main.ts" },
  ];
  for (const one of refused) assert.equal(borderViolations([one]).length, 1, `${one.file} -> ${one.target}`);
  const allowed: SourceImport[] = [
    { file: "services/worker/src/main.ts", target: "@hearth/vmm" },
    { file: "services/worker/src/main.ts", target: "services/worker/src/config.ts" },
    { file: "packages/vmm/src/port.ts", target: "packages/vmm/src/qemu/driver.ts" },
    // `hearth up` and `npm start` start the agent of a host, of which everything else is a child.
    { file: "cli/src/up.ts", target: "@hearth/host-agent" },
    { file: "scripts/start.ts", target: "@hearth/host-agent" },
    { file: "bench/src/journal.ts", target: "@hearth/worker" },
    { file: "drill/src/region.ts", target: "@hearth/worker" },
  ];
  assert.deepEqual(borderViolations(allowed), []);
});
