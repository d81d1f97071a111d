/** The typed client of the Hearth API, for Node. */
export { Apps, type CreateApp } from "./src/apps.ts";
export {
  type CertificateDetail,
  type CertificateStatus,
  type CertificateSummary,
  Certificates,
} from "./src/certificates.ts";
export { HearthClient } from "./src/client.ts";
export type { ExecSession, TerminalSize } from "./src/exec-session.ts";
export { Files } from "./src/files.ts";
export {
  chooseMachine,
  type FoundMachine,
  findMachine,
  listMachines,
  type MachineScope,
} from "./src/find-machine.ts";
export { Images } from "./src/images.ts";
export { type AcquireLease, Leases } from "./src/leases.ts";
export {
  type ListMachines,
  type LogOptions,
  Machines,
  type StopOptions,
  type Target,
} from "./src/machines.ts";
export { type Network, Networks } from "./src/networks.ts";
export { Ssh, type SshCertificate, type SshCertificateWish } from "./src/ssh.ts";
export type { FakeApi } from "./src/testing/fake-api.ts";
export {
  type ApiToken,
  type CreateToken,
  type CurrentToken,
  type TokenLevel,
  type TokenScopeAnswer,
  Tokens,
} from "./src/tokens.ts";
export type { TransportOptions } from "./src/transport.ts";
export type * from "./src/types.ts";
export type { WaitOptions } from "./src/wait.ts";

/** A fake of the API for tests of its clients; loaded only when it is asked for. */
export async function startFakeApi(): Promise<import("./src/testing/fake-api.ts").FakeApi> {
  const { startFakeApi: start } = await import("./src/testing/fake-api.ts");
  return start();
}
