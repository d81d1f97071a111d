/** How a command ends when it fails: what it says, and with which exit code. */
import { HearthError } from "@hearth/errors";
import type { Environment } from "./environment.ts";

export const exitCode = {
  failed: 1,
  usage: 2,
  /** Hearth itself failed, where the code is otherwise that of a program. */
  hearth: 125,
  notExecutable: 126,
  notFound: 127,
  interrupted: 130,
  /** What a shell reports for a program that wrote into a closed pipe. */
  brokenPipe: 141,
} as const;

/** A failure with an exit code of its own. */
export class Failure extends Error {
  readonly exitCode: number;

  constructor(cause: unknown, code: number) {
    super(HearthError.from(cause).message, { cause });
    this.name = "Failure";
    this.exitCode = code;
  }
}

/** A mistake in how the command was called; the sentence says what to do. */
export function usage(message: string): Failure {
  return new Failure(new HearthError("invalid_argument", { message }), exitCode.usage);
}

/** Everything that fails inside is Hearth's failure, unless it has said which it is. */
export async function asHearthFailure<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure(error, exitCode.hearth);
  }
}

export interface Explanation {
  readonly code: string;
  readonly message: string;
  readonly exitCode: number;
  readonly details?: Readonly<Record<string, unknown>>;
}

export function explain(thrown: unknown, environment: Environment): Explanation {
  const cause = thrown instanceof Failure ? thrown.cause : thrown;
  const code = thrown instanceof Failure ? thrown.exitCode : exitCode.failed;
  if (!(cause instanceof HearthError)) {
    return { ...systemFailure(cause), exitCode: code };
  }
  const message = `${cause.message}${advice(cause, environment)}`;
  const explanation = { code: cause.code, message, exitCode: code };
  return cause.details === undefined ? explanation : { ...explanation, details: cause.details };
}

/** What the person at this terminal can do, where the API could not know it. */
function advice(error: HearthError, { apiUrl, isApiChosen, tokenPath }: Environment): string {
  if (error.code === "unavailable" && error.details?.api_url !== undefined) {
    return isApiChosen
      ? ` HEARTH_API_URL is ${apiUrl}.`
      : " Start Hearth on this host with `hearth up`, or name another host with HEARTH_API_URL.";
  }
  if (error.code === "unauthenticated") {
    return ` The token comes from HEARTH_TOKEN, or else from ${tokenPath}.`;
  }
  return "";
}

const systemReasons: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  EACCES: "you have no permission for it",
  EPERM: "you have no permission for it",
  EISDIR: "it is a directory",
  ENOTDIR: "a part of its path is no directory",
  ENOSPC: "the disk is full",
  EEXIST: "it is there already",
};

function systemFailure(cause: unknown): { readonly code: string; readonly message: string } {
  const { code, path, message } = cause as NodeJS.ErrnoException;
  const reason = code === undefined ? undefined : systemReasons[code];
  if (code !== undefined && reason !== undefined && path !== undefined)
    return { code, message: `${path}: ${reason}; check the path.` };
  const text = `The hearth command failed: ${message ?? String(cause)}. HEARTH_DEBUG=1 shows where.`;
  return { code: "internal", message: text };
}
