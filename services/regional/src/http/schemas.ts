/** Shapes that several routes share. Closed where a client sends them, open where Hearth answers. */
import Type from "typebox";
import { WireErrorBody } from "./wire-error.ts";

export const closed = { additionalProperties: false } as const;
export const opt = Type.Optional;

const nameText = (description: string) =>
  Type.String({ pattern: "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", description });

export const AppName = nameText("Lower-case letters, digits and hyphens; at most 63.");
export const MachineName = Type.String({
  pattern: "^[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$",
  description: "Letters, digits, hyphens and underscores; at most 63.",
});
export const OrgSlug = nameText("The slug of an organisation.");

export const AppParams = Type.Object({ app: Type.String() });
export const MachineParams = Type.Object({ app: Type.String(), id: Type.String() });

export const Ok = Type.Object({ ok: Type.Boolean() });

/** Answers by status, with the shape of errors added. */
export const answers = <T extends Record<number, Type.TSchema>>(byStatus: T) =>
  ({ ...byStatus, "4xx": WireErrorBody, "5xx": WireErrorBody }) as const;
