/** What the front door of a host takes over the bus from those of others. */
import { HearthError } from "@hearth/errors";
import Type from "typebox";
import Value from "typebox/value";

/** In one message. */
export const maxUsedMachines = 5_000;

/** `used`: machines of the host that hears it had something to do for the one that says it. */
const UsedMachines = Type.Object(
  {
    machine_ids: Type.Array(Type.String({ pattern: "^[0-9a-f]{14}$" }), { maxItems: maxUsedMachines }),
  },
  { additionalProperties: false },
);
export type UsedMachines = Type.Static<typeof UsedMachines>;

/** @throws HearthError `invalid_argument` */
export function parseUsedMachines(payload: unknown): UsedMachines {
  if (Value.Check(UsedMachines, payload)) return payload;
  throw new HearthError("invalid_argument", {
    message: `machine_ids is a list of at most ${maxUsedMachines} ids of machines.`,
    details: { command: "used" },
  });
}
