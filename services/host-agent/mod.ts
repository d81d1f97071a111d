/** The agent of a host, for the command line: start, stop, ask. */
export type { AgentState, AgentStatus } from "./src/agent-status.ts";
export {
  type DownOptions,
  down,
  type JoinOptions,
  type JoinResult,
  joinUp,
  status,
  type UpOptions,
  type UpResult,
  up,
} from "./src/commands.ts";
export { type BundledService, type BundleInputs, serviceProgram } from "./src/service-program.ts";
export { nodeArguments } from "./src/service-set.ts";
export { type AgentOptions, type AgentSettings, readSettings } from "./src/settings.ts";
export type { ServiceState, ServiceStatus } from "./src/supervisor.ts";
