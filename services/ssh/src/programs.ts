/** What runs in the machine for a client: pure. */
import { constants } from "node:os";
import type { ExecStart } from "@hearth/machine";

export type SessionStart = Omit<ExecStart, "machine_id">;

export interface SessionWish {
  /** Absent: a shell. */
  readonly command?: string;
  readonly tty?: { readonly cols: number; readonly rows: number };
  readonly env: Readonly<Record<string, string>>;
}

const shell = "/bin/sh";
/** Bash where the image has one: a login shell that people expect. */
const loginShell = "for s in bash sh; do command -v $s >/dev/null && exec $s -l; done";

export function sessionStart({ command, tty, env }: SessionWish): SessionStart {
  return {
    command: [shell, "-c", command ?? loginShell],
    stdin: true,
    ...(tty === undefined ? {} : { tty }),
    ...(Object.keys(env).length === 0 ? {} : { env: { ...env } }),
  };
}

/** What sshd of Debian takes from a client, and what makes colours right. */
export const isPassedOn = (name: string): boolean => /^(LANG|LC_[A-Z]{1,32}|COLORTERM|NO_COLOR)$/.test(name);

/** Of 0 a client means that it does not know. */
export const cells = (count: number, otherwise: number): number =>
  count >= 1 && count <= 65_535 ? count : otherwise;

/** @param name without SIG, as RFC 4254, section 6.10 has it */
export const signalNumber = (name: string): number | undefined =>
  constants.signals[`SIG${name}` as NodeJS.Signals];

/** Without SIG; undefined where SSH has no name for it, and the exit code says it. */
export function signalName(number: number): string | undefined {
  const named = [
    "ABRT",
    "ALRM",
    "FPE",
    "HUP",
    "ILL",
    "INT",
    "KILL",
    "PIPE",
    "QUIT",
    "SEGV",
    "TERM",
    "USR1",
    "USR2",
  ];
  return named.find((name) => signalNumber(name) === number);
}
