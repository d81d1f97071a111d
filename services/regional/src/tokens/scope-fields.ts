/** To what a token, or a certificate that stands for one, may be narrowed by who asks for it. */
import Type from "typebox";
import { AppName, OrgSlug, opt } from "../http/schemas.ts";

const limited = <T extends Type.TSchema>(items: T) => opt(Type.Array(items, { minItems: 1, maxItems: 50 }));

export const scopeFields = {
  org: opt(OrgSlug),
  apps: limited(AppName),
  machines: limited(Type.String({ pattern: "^[0-9a-f]{14}$" })),
};

/** Both in seconds. */
export const expiresIn = (longest: number, byDefault: number) =>
  opt(
    Type.Integer({
      minimum: 1,
      maximum: longest,
      description: `Seconds; ${byDefault} when absent, or less where the token in use ends before.`,
    }),
  );
