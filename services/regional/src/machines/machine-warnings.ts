/** Names what a client sent and Hearth does not act on, so that nobody waits for an effect. */
import { fieldsNotActedOn, type MachineConfigInput } from "@hearth/machine";

const bodyFields = ["skip_service_registration", "min_secrets_version", "lsvd"] as const;
type Body = { readonly config: Partial<MachineConfigInput> } & {
  readonly [name in (typeof bodyFields)[number]]?: unknown;
};

export interface FieldWarning {
  readonly field: string;
  readonly message: string;
}

export function warningsOf(body: Body): FieldWarning[] {
  const ignored = [
    ...fieldsNotActedOn(body.config).map((name) => `config.${name}`),
    ...bodyFields.filter((name) => body[name]),
  ];
  return ignored.map((field) => ({
    field,
    message: `${field} is stored and has no effect yet.`,
  }));
}
