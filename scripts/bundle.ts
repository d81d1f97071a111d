/**
 * Makes of each service one file, .hearth/services/<name>.mjs, for what it saves in memory: docs/rfd/0002. A bundle
 * that is current is left alone, and each appears by rename, so that a service that starts meanwhile reads a whole one.
 */
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { type BundledService, type BundleInputs, readSettings, serviceProgram } from "@hearth/host-agent";
import { build, type Plugin } from "esbuild";

const root = resolve(import.meta.dirname, "..");
const names: readonly BundledService[] = [
  "host-agent",
  "images",
  "dns",
  "worker",
  "regional",
  "ingress",
  "ssh",
];
const settings = readSettings({}, {});

// CommonJS packages in the bundle ask for what an ES module does not have.
const banner = `import { createRequire } from "node:module"; const require = createRequire(import.meta.url);
const __dirname = import.meta.dirname; const __filename = import.meta.filename;`;

/**
 * An ES import of `node:http` reads all that the module exports, and reading its WebSocket loads Node's whole fetch
 * client: ten megabytes that stay. By this call it is loaded only when somebody uses it.
 */
const builtinsOnUse: Plugin = {
  name: "builtins-on-use",
  setup(plugin) {
    const namespace = "builtin";
    plugin.onResolve({ filter: /^(node:)?https?$/ }, ({ path }) => ({ path, namespace }));
    plugin.onLoad({ filter: /./, namespace }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(path)});`,
    }));
  },
};

/**
 * V8 keeps the source of a module, and gives every character two bytes when one of them needs two: half of it is saved
 * by writing those few in the form that is the same in strings and expressions (esbuild leaves them in the latter, and
 * in comments).
 */
const inAscii = (text: string): string =>
  text.replaceAll(/[^\t\n\r -~]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);

async function bundle(name: BundledService): Promise<void> {
  const entry = join(settings.servicesDir, name, "src/main.ts");
  const path = join(settings.bundlesDir, `${name}.mjs`);
  if (serviceProgram(settings, name) === path) return;
  const { metafile, outputFiles } = await build({
    entryPoints: [entry],
    outfile: `${path}.new`,
    absWorkingDir: root,
    bundle: true,
    platform: "node",
    target: "node24",
    format: "esm",
    metafile: true,
    plugins: [builtinsOnUse],
    // Optional parts of ssh2, which does without them.
    external: ["*.node", "cpu-features"],
    banner: { js: banner },
    write: false,
    // Half of the text again. Names stay as they are, and lines short enough for a stack trace to point into.
    minifyWhitespace: true,
    lineLimit: 120,
    logLevel: "warning",
  });
  const [output] = outputFiles;
  if (output === undefined) throw new Error(`${name}: nothing was bundled`);
  writeFileSync(`${path}.new`, inAscii(output.text));
  const own = Object.keys(metafile.inputs).filter((input) => !/^(node_modules\/|builtin:)/.test(input));
  const sources = [...own, "package-lock.json", "scripts/bundle.ts"].map((input) => join(root, input));
  const inputs: BundleInputs = { entry, sources };
  writeFileSync(`${path}.inputs.json`, JSON.stringify(inputs));
  renameSync(`${path}.new`, path);
}

mkdirSync(settings.bundlesDir, { recursive: true });
await Promise.all(names.map(bundle));
