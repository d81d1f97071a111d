/** What the end of a program in a machine is as the exit code of this process, by the custom of shells and docker. */
import { HearthError } from "@hearth/errors";
import type { ExecStatus } from "@hearth/machine";
import { exitCode, Failure } from "./failure.ts";

/** @throws Failure when the program never began: 127 not found, 126 not allowed, 125 for what is Hearth's */
export function exitCodeOf(status: ExecStatus): number {
  if (status.kind === "failed") throw startFailure(HearthError.fromWire(status));
  const { exit_code, exit_signal } = status;
  return exit_signal > 0 ? 128 + exit_signal : exit_code;
}

const notExecutable = new HearthError("permission_denied", {
  message: "The machine does not let this user run that program; check its permissions and what it is.",
});

export function startFailure(error: HearthError): Failure {
  switch (error.code) {
    case "entrypoint_not_found":
    case "no_command":
      return new Failure(error, exitCode.notFound);
    case "permission_denied":
      return new Failure(notExecutable, exitCode.notExecutable);
    default:
      return new Failure(error, exitCode.hearth);
  }
}
