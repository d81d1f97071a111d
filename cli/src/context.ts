/** What every command works with. */
import { HearthClient } from "@hearth/sdk";
import type { Environment } from "./environment.ts";
import { exitCode } from "./failure.ts";
import { note } from "./output.ts";
import { warnOfAge } from "./replica-age.ts";

export interface Context {
  readonly environment: Environment;
  /** The client of the API that the environment names, made when it is first wanted. */
  readonly client: () => HearthClient;
  /** The exit code of the command when it ends without an error. */
  exitCode: number;
  /** Nobody reads what the command prints. A command that left something running replaces it. */
  onBrokenPipe: () => void;
}

export function createContext(environment: Environment): Context {
  let client: HearthClient | undefined;
  return {
    environment,
    client: () => {
      client ??= new HearthClient({
        apiUrl: environment.apiUrl,
        token: environment.readToken(),
        onAge: warnOfAge(note),
      });
      return client;
    },
    exitCode: 0,
    onBrokenPipe: () => process.exit(exitCode.brokenPipe),
  };
}
