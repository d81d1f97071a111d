import { HearthError } from "@hearth/errors";

const token = /^[A-Za-z0-9_-]{1,128}$/;

/** One token of a subject. Wildcards and dots would widen a subject, so they are refused, not escaped. */
export function assertToken(text: string): string {
  if (!token.test(text)) {
    throw new HearthError("invalid_argument", {
      message: "Not a valid name on the bus.",
      details: { name: text },
    });
  }
  return text;
}

/** A key of state: tokens with dots between them, as in `machine.<id>`. */
export function assertKey(key: string): string {
  for (const part of key.split(".")) assertToken(part);
  return key;
}
