/** Why a machine did not come up, from its newest events. */
import { HearthError } from "@hearth/errors";
import type { Machine } from "@hearth/sdk";

export function failureOf({ id, events, state }: Machine): HearthError {
  for (const { request } of events)
    if (request?.error !== undefined) {
      const { code, message, step } = request.error;
      const hint = message.includes("hearth explain") ? "" : ` \`hearth explain ${id}\` shows the steps.`;
      return HearthError.fromWire({ code, message: `${message}${hint}`, details: { machine_id: id, step } });
    }
  return new HearthError("internal", {
    message: `The machine ${id} is ${state} and does not say why; \`hearth logs ${id}\` may.`,
    details: { machine_id: id },
  });
}
