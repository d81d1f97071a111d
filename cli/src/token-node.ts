/** `hearth token node`: a token with which one host joins the region. */
import { type Command, InvalidArgumentError } from "commander";
import type { Context } from "./context.ts";
import { jsonOption } from "./options.ts";
import { note, printJson, printLine } from "./output.ts";

interface Options {
  readonly api?: boolean;
  readonly bus?: boolean;
  readonly ttl?: number;
  readonly json?: boolean;
}

export function defineTokenNode(command: Command, context: Context): void {
  command
    .description("make a token with which one host joins the region")
    .option("--api", "the host serves the API too")
    .option("--bus", "the host has a server of the bus too; three of them make a cluster")
    .option("--ttl <duration>", "how long it may be used (1h)", parseSeconds)
    .addOption(jsonOption())
    .action(async ({ api, bus, ttl, json = false }: Options) => {
      const made = await context.client().joinToken({
        ...(api === undefined ? {} : { api }),
        ...(bus === undefined ? {} : { bus }),
        ...(ttl === undefined ? {} : { ttl_seconds: ttl }),
      });
      if (json) return printJson(made);
      printLine(made.token);
      const until = new Date(made.expires_at_ms).toISOString();
      note(
        `hearth: for one host, as ${made.roles.join(", ")}, until ${until}. On that host: hearth join TOKEN`,
      );
    });
}

const units: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** Such as 90s, 30m, 1h or 2d. */
function parseSeconds(text: string): number {
  const [, number = "", unit = ""] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const seconds = Number(number) * (units[unit] ?? 0);
  if (seconds > 0) return seconds;
  throw new InvalidArgumentError("Give a duration such as 30m, 1h or 2d.");
}
