/** The configuration of a machine out of the options of `hearth run`. Pure but for the files of --env-file. */
import type { CreateMachine } from "@hearth/sdk";
import { InvalidArgumentError } from "commander";
import { type EgressOptions, egressOf } from "./egress-options.ts";
import { type EnvOptions, readEnvOptions } from "./env-options.ts";
import { parsePairs } from "./options.ts";

export interface RunOptions extends EnvOptions, EgressOptions {
  readonly detach?: boolean;
  readonly rm?: boolean;
  readonly interactive?: boolean;
  readonly tty?: boolean;
  readonly name?: string;
  readonly app: string;
  readonly memory?: number;
  readonly cpus?: number;
  readonly entrypoint?: string;
  readonly restart?: RestartOption;
  readonly region?: string;
  readonly metadata?: readonly string[];
  readonly nodeLabel?: readonly string[];
  readonly antiAffinity?: boolean;
  readonly stopSignal?: string;
  readonly stopTimeout?: number;
  readonly json?: boolean;
}

export interface RestartOption {
  readonly policy: "no" | "on-failure" | "always";
  readonly max_retries?: number;
}

export function parseRestart(text: string): RestartOption {
  const [, policy, retries] = /^(no|on-failure|always|unless-stopped)(?::(\d{1,9}))?$/.exec(text) ?? [];
  if (policy === undefined || (retries !== undefined && policy !== "on-failure"))
    throw new InvalidArgumentError("Use no, on-failure, on-failure:<times> or always.");
  // A machine that somebody stopped stays stopped whatever its policy.
  const named = policy === "unless-stopped" ? "always" : (policy as RestartOption["policy"]);
  return retries === undefined ? { policy: named } : { policy: named, max_retries: Number(retries) };
}

/** @param words the command; as with docker it takes the place of the image's own arguments */
export async function machineOf(
  image: string,
  words: readonly string[],
  options: RunOptions,
  lookUp: (name: string) => string | undefined,
): Promise<CreateMachine> {
  const { memory, cpus, entrypoint, name, region, tty = false, rm = false, detach = false } = options;
  const env = await readEnvOptions(options, lookUp);
  const metadata = parsePairs("--metadata", options.metadata);
  const labels = parsePairs("--node-label", options.nodeLabel);
  // In the foreground the end of the program is the answer, so it does not begin again unless that is asked for.
  const restart = options.restart ?? (detach && !rm ? undefined : { policy: "no" as const });
  const init = {
    ...(entrypoint === undefined ? {} : { entrypoint: [entrypoint] }),
    ...(words.length === 0 ? {} : { cmd: [...words] }),
    ...(tty ? { tty } : {}),
  };
  const guest = {
    ...(cpus === undefined ? {} : { cpus }),
    ...(memory === undefined ? {} : { memory_mb: memory }),
  };
  const stop = {
    ...(options.stopSignal === undefined ? {} : { signal: options.stopSignal }),
    ...(options.stopTimeout === undefined ? {} : { timeout: `${options.stopTimeout}s` }),
  };
  return {
    ...(name === undefined ? {} : { name }),
    ...(region === undefined ? {} : { region }),
    config: {
      image,
      ...unlessEmpty("env", env),
      ...unlessEmpty("init", init),
      ...unlessEmpty("guest", guest),
      ...unlessEmpty("metadata", metadata),
      ...unlessEmpty("placement", {
        ...unlessEmpty("labels", labels),
        ...(options.antiAffinity === true ? { anti_affinity: true } : {}),
      }),
      ...unlessEmpty("network", egressOf(options) ?? {}),
      ...unlessEmpty("stop_config", stop),
      ...(restart === undefined ? {} : { restart }),
      ...(rm ? { auto_destroy: true } : {}),
    },
  };
}

const unlessEmpty = <Name extends string, Value extends object>(
  name: Name,
  value: Value,
): { readonly [name in Name]?: Value } =>
  Object.keys(value).length === 0 ? {} : ({ [name]: value } as { [name in Name]: Value });
