/**
 * Checks requests against the schemas that also make the OpenAPI document. A body is taken as it is: nothing
 * is coerced and nothing is removed, save members that are null, which several clients send for absent ones.
 * A query is text, so numbers and flags are read from it; a flag that is there and empty is true, because
 * that is how some clients write it.
 */
import { HearthError } from "@hearth/errors";
import type Type from "typebox";
import Value from "typebox/value";

/** A body in which null means something keeps it: set on the schema of the body. */
export const keepsNulls = "x-keeps-nulls";

type Checked = { value: unknown } | { error: HearthError };
interface Schema extends Type.TSchema {
  readonly properties?: Readonly<Record<string, Type.TSchema>>;
  readonly [keepsNulls]?: boolean;
}

export function checkRequest(schema: Schema, part: string | undefined, data: unknown): Checked {
  const input =
    part === "body" ? bodyOf(schema, data) : part === "querystring" ? queryOf(schema, data) : data;
  return Value.Check(schema, input)
    ? { value: input }
    : { error: problemOf(schema, input, part ?? "request") };
}

function bodyOf(schema: Schema, data: unknown): unknown {
  const body = data ?? {};
  return schema[keepsNulls] === true ? body : withoutNulls(body);
}

export function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== "object" || value === null) return value;
  const kept = Object.entries(value).filter(([, member]) => member !== null);
  return Object.fromEntries(kept.map(([name, member]) => [name, withoutNulls(member)]));
}

function queryOf(schema: Schema, data: unknown): Record<string, unknown> {
  const query: Record<string, unknown> = {};
  for (const [name, raw] of Object.entries(data ?? {})) {
    const type = typeOf(schema.properties?.[name]);
    const text: unknown = Array.isArray(raw) && type !== "array" ? raw.at(-1) : raw;
    if (type === "array") query[name] = Array.isArray(raw) ? raw : [raw];
    else if (type === "integer") query[name] = asInteger(text);
    else if (type === "boolean") query[name] = asFlag(text);
    else query[name] = text;
  }
  return query;
}

const typeOf = (schema: Type.TSchema | undefined): unknown =>
  schema !== undefined && "type" in schema ? schema.type : undefined;

const asInteger = (text: unknown): unknown =>
  typeof text === "string" && /^-?\d{1,15}$/.test(text) ? Number(text) : text === "" ? undefined : text;

function asFlag(text: unknown): unknown {
  if (text === "" || text === "true" || text === "1") return true;
  return text === "false" || text === "0" ? false : text;
}

function problemOf(schema: Type.TSchema, input: unknown, part: string): HearthError {
  const errors = Value.Errors(schema, input);
  for (const error of errors)
    if (error.keyword === "additionalProperties") {
      const [name = ""] = error.params.additionalProperties;
      const field = fieldPath(`${error.instancePath}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`);
      const where = part === "querystring" ? "query parameter" : "field";
      const message = `Nobody knows the ${where} ${field}; remove it.`;
      return new HearthError("unknown_field", { message, details: { field } });
    }
  for (const error of errors)
    if (error.keyword === "required") {
      const [name = ""] = error.params.requiredProperties;
      return invalid(fieldPath(`${error.instancePath}/${name}`) || part, "is missing");
    }
  // A union reports each of its branches and then itself; its own report is the one that reads well.
  const error = errors.find((each) => each.keyword === "anyOf") ?? errors[0];
  const problem =
    error?.keyword === "anyOf" ? "has none of the forms it may have" : (error?.message ?? "is not valid");
  return invalid(fieldPath(error?.instancePath ?? "") || part, problem);
}

export const invalid = (field: string, problem: string): HearthError =>
  new HearthError("invalid_argument", { message: `${field} ${problem}.`, details: { field } });

/** A JSON pointer as people write it: `/files/0/guest_path` is `files[0].guest_path`. */
function fieldPath(pointer: string): string {
  let path = "";
  for (const part of pointer.split("/").slice(1)) {
    const name = part.replaceAll("~1", "/").replaceAll("~0", "~");
    if (/^\d+$/.test(name)) path += `[${name}]`;
    else path += path === "" ? name : `.${name}`;
  }
  return path;
}
