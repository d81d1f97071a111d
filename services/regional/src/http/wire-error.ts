/**
 * An error as clients of the Machines API read it. They prefer `message`, fall back to `error`, branch on the
 * few values of `status`, and match on texts; `code` and `details` are for those who know Hearth.
 */
import type { HearthError, HearthErrorCode } from "@hearth/errors";
import Type from "typebox";

export const WireErrorBody = Type.Object(
  {
    error: Type.String({ description: "The same text as `message`." }),
    status: Type.Enum(["unknown", "insufficient_capacity", "name_taken", "error"], {
      description: "`error` where a lease refuses.",
    }),
    message: Type.String(),
    code: Type.String({ description: "A code of the error registry; branch on this." }),
    details: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  },
  { description: "An error." },
);
export type WireErrorBody = Type.Static<typeof WireErrorBody>;

const statuses: { readonly [code in HearthErrorCode]?: WireErrorBody["status"] } = {
  insufficient_capacity: "insufficient_capacity",
  name_taken: "name_taken",
  lease_held: "error",
};

export function wireError(error: HearthError): WireErrorBody {
  const { code, message, details } = error;
  const status = statuses[code] ?? "unknown";
  const body = { error: message, status, message, code };
  return details === undefined ? body : { ...body, details };
}
