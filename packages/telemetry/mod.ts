import { type Logger, pino } from "pino";

export type { Logger } from "pino";
export { MetricsServer, type MetricsServerDeps } from "./src/metrics-server.ts";

/**
 * A structured logger of one service: JSON lines on stderr, so that stdout stays free for what a command
 * prints. The level comes from the caller's parsed configuration, not from the environment. Secrets are
 * redacted here because no call site can be trusted to remember.
 */
export function createLogger(
  service: string,
  bindings: Readonly<Record<string, unknown>> = {},
  options: { readonly level?: string; readonly destination?: { write(line: string): void } } = {},
): Logger {
  return pino(
    {
      level: options.level ?? "info",
      base: { service, ...bindings },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: ["*.password", "*.token", "*.authorization", "password", "token", "authorization"] },
    },
    options.destination ?? pino.destination({ dest: 2, sync: true }),
  );
}
