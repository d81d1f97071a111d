/** Turns an answer of status 400 and above into the error that the server meant. */
import type { IncomingMessage } from "node:http";
import { HearthError, type HearthErrorCode } from "@hearth/errors";

const maxErrorBytes = 256 * 1024;
const maxShownCharacters = 300;

/** For answers of something between the client and the API, which knows no codes. */
const codeOfStatus: Readonly<Record<number, HearthErrorCode>> = {
  400: "invalid_argument",
  401: "unauthenticated",
  403: "permission_denied",
  404: "not_found",
  408: "deadline_exceeded",
  409: "conflict",
  413: "payload_too_large",
  501: "not_implemented",
  502: "unavailable",
  503: "unavailable",
  504: "unavailable",
};

export async function readApiError(answer: IncomingMessage): Promise<HearthError> {
  let text = "";
  try {
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      text += chunk.toString("utf8");
      if (text.length > maxErrorBytes) break;
    }
  } catch {
    // A broken body leaves the status, which is enough to say what failed.
  }
  return errorFromBody(answer.statusCode ?? 500, text);
}

export function errorFromBody(status: number, text: string): HearthError {
  const fallback = codeOfStatus[status] ?? (status < 500 ? "invalid_argument" : "internal");
  const body = parse(text);
  if (typeof body?.code === "string") {
    return HearthError.fromWire({ ...body, message: body.message ?? body.error });
  }
  const said = [body?.message, body?.error].find((one) => typeof one === "string" && one !== "");
  const shown = typeof said === "string" ? said : body === undefined ? text.trim() : "";
  if (shown === "" || shown.startsWith("<")) {
    return new HearthError(fallback, { details: { status } });
  }
  return new HearthError(fallback, { message: shown.slice(0, maxShownCharacters), details: { status } });
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
