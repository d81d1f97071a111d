/** The worker of a drill as one file: a drill starts thousands of them, and from its sources each takes three times as long. */
import { join } from "node:path";
import { build } from "esbuild";

// CommonJS packages in the bundle ask for Node's modules by `require`, which an ES module does not have.
const banner = 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);';

/** @returns the path of the file, in `directory` */
export async function bundleDrillWorker(directory: string): Promise<string> {
  const outfile = join(directory, "drill-worker.mjs");
  await build({
    entryPoints: [join(import.meta.dirname, "drill-worker.ts")],
    outfile,
    bundle: true,
    platform: "node",
    target: "node24",
    format: "esm",
    banner: { js: banner },
    logLevel: "warning",
  });
  return outfile;
}
