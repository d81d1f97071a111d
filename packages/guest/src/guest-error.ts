import { Code, ConnectError } from "@connectrpc/connect";
import { HearthError, type HearthErrorCode } from "@hearth/errors";

const codes: Partial<Record<Code, HearthErrorCode>> = {
  [Code.InvalidArgument]: "invalid_argument",
  [Code.NotFound]: "guest_path_not_found",
  [Code.PermissionDenied]: "permission_denied",
  [Code.AlreadyExists]: "conflict",
  [Code.FailedPrecondition]: "conflict",
  [Code.ResourceExhausted]: "disk_full",
  [Code.DeadlineExceeded]: "deadline_exceeded",
  [Code.Canceled]: "cancelled",
  [Code.Unimplemented]: "not_implemented",
  [Code.Unavailable]: "guest_channel_broken",
  [Code.Aborted]: "guest_channel_broken",
};

/** Why a program did not start, which the code alone does not say. */
const reasons: Readonly<Record<string, { code: HearthErrorCode; message?: string }>> = {
  "user-unknown": { code: "guest_user_unknown" },
  "program-not-found": { code: "entrypoint_not_found" },
  "program-not-executable": {
    code: "entrypoint_not_found",
    message: "The image's program cannot be executed; check its mode, its format and the user.",
  },
  "workdir-not-found": { code: "guest_path_not_found" },
};

/** What says enough by itself when a machine's settings could not be applied. */
const configureFaults: ReadonlySet<HearthErrorCode> = new Set([
  "disk_full",
  "invalid_argument",
  "guest_channel_broken",
  "deadline_exceeded",
  "cancelled",
]);

/** An error of a call to the guest as Hearth's own. The guest's text is a cause: a guest is not trusted. */
export function guestError(thrown: unknown): HearthError {
  if (thrown instanceof HearthError) return thrown;
  const error = ConnectError.from(thrown);
  if (error.cause instanceof HearthError) return error.cause;
  const reason = error.metadata.get("hearth-reason") ?? "";
  const general = codes[error.code] ?? "internal";
  const { code, ...options } =
    reason === "configure-failed" && !configureFaults.has(general)
      ? { code: "guest_configure_failed" as const }
      : (reasons[reason] ?? { code: general });
  return new HearthError(code, { ...options, cause: thrown });
}
