/** A program in a machine, with one answer. Sessions are in session-routes.ts. */
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import { closedSignal } from "../http/closed-signal.ts";
import type { App } from "../http/http-server.ts";
import { answers, closed, MachineParams, opt } from "../http/schemas.ts";
import { invalid } from "../http/validation.ts";
import { runToEnd } from "./exec-unary.ts";
import { splitWords } from "./shell-words.ts";

const defaultSeconds = 60;
const longestSeconds = 3600;

const ExecBody = Type.Object(
  {
    command: opt(Type.Array(Type.String({ maxLength: 131_072 }), { minItems: 1, maxItems: 4096 })),
    cmd: opt(Type.String({ description: "The command as one line, split as a shell does; use `command`." })),
    stdin: opt(Type.String()),
    container: opt(Type.String()),
    timeout: opt(
      Type.Integer({ minimum: 0, maximum: longestSeconds, description: "Seconds; 0 is the default, 60." }),
    ),
  },
  closed,
);
const ExecAnswer = Type.Object({
  exit_code: Type.Integer(),
  exit_signal: Type.Integer({ description: "0 when no signal ended it." }),
  stdout: Type.String(),
  stderr: Type.String(),
  truncated: opt(Type.Boolean({ description: "Output beyond 1 MiB a stream was dropped." })),
});

export function execRoutes(app: App, context: ApiContext): void {
  app.post(
    "/v1/apps/:app/machines/:id/exec",
    {
      schema: {
        tags: ["machines"],
        summary: "Run a program in a machine and wait for its end",
        params: MachineParams,
        body: ExecBody,
        response: answers({ 200: ExecAnswer }),
      },
    },
    async ({ params, body, raw }, reply) => {
      const fact = context.view.machine(params.app, params.id);
      const command = commandOf(body);
      if (body.container) throw invalid("container", "names a container, and machines have none here");
      const { stdin } = body;
      const stream = await context.access.open(fact, "exec", { command, stdin: stdin !== undefined });
      return runToEnd(stream, {
        stdin,
        timeoutMs: (body.timeout || defaultSeconds) * 1000,
        signal: closedSignal(raw, reply.raw),
      });
    },
  );
}

function commandOf({ command, cmd }: Type.Static<typeof ExecBody>): string[] {
  if (command !== undefined) return command;
  const words = splitWords(cmd ?? "");
  if (words.length > 0) return words;
  throw invalid("command", "is missing");
}
