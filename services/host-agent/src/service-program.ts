/**
 * Which file a service is started from: its bundle, or its sources where the bundle is not of these sources.
 *
 * A bundle is a cache, as a compiled file is: scripts/bundle.ts makes it, and whoever edits a source and starts the
 * node again must get what was edited, without a step between. Why there are bundles: docs/rfd/0002.
 */
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { AgentSettings } from "./settings.ts";

/** Written beside each bundle; paths are absolute, so that a checkout that was moved has no bundles. */
export interface BundleInputs {
  /** The file of which it is the bundle. */
  readonly entry: string;
  /** All files that went into it, but those of installed packages, for which the lock file stands. */
  readonly sources: readonly string[];
}

export type BundledService = "host-agent" | "images" | "dns" | "worker" | "regional" | "ingress" | "ssh";

export function serviceProgram(
  { servicesDir, bundlesDir }: Pick<AgentSettings, "servicesDir" | "bundlesDir">,
  name: BundledService,
): string {
  const source = join(servicesDir, name, "src/main.ts");
  const bundle = join(bundlesDir, `${name}.mjs`);
  return isCurrent(bundle, source) ? bundle : source;
}

/** Whether a command line is that of a service, started either way. */
export const isServiceProgram = (path: string, name: BundledService): boolean =>
  path.endsWith(`/services/${name}/src/main.ts`) || path.endsWith(`/services/${name}.mjs`);

function isCurrent(bundle: string, source: string): boolean {
  try {
    const { entry, sources } = JSON.parse(readFileSync(`${bundle}.inputs.json`, "utf8")) as BundleInputs;
    const madeMs = statSync(bundle).mtimeMs;
    return entry === source && sources.every((path) => statSync(path).mtimeMs <= madeMs);
  } catch {
    // There is none, or a source of it is gone.
    return false;
  }
}
