/** What the program of a machine wrote, as lines of JSON, for as long as somebody reads. */
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { answers, closed, MachineParams, opt } from "../http/schemas.ts";
import { answerWithStream } from "../http/stream-answer.ts";

/** A program may be silent; its reader must know soon that it is listened to. */
const firstWithinMs = 300;

export function logsRoutes(app: App, context: ApiContext): void {
  app.get(
    "/v1/apps/:app/machines/:id/logs",
    {
      config: { answers: "lines" },
      schema: {
        tags: ["machines"],
        summary: "The output of a machine; with `follow` also what is to come",
        params: MachineParams,
        querystring: Type.Object(
          {
            follow: opt(Type.Boolean()),
            tail: opt(
              Type.Integer({ minimum: 0, maximum: 100_000, description: "The newest entries only." }),
            ),
          },
          closed,
        ),
        response: answers({
          200: Type.Unknown({
            description:
              "Lines of JSON: `{seq, timestamp, stream: stdout|stderr|hearth, data: base64}`, and last perhaps `{kind:error,error}`.",
          }),
        }),
      },
    },
    async (request, reply) => {
      const { params, query } = request;
      const fact = context.view.machine(params.app, params.id);
      const stream = await context.access.open(fact, "logs", query);
      await answerWithStream({ request, reply, ended: context.gate.endedOf(request) }, stream, {
        kind: "lines",
        firstWithinMs,
      });
    },
  );
}
