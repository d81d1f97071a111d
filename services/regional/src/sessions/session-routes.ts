/** Sessions with a program of a machine, over a WebSocket: one that is started, or the machine's own. */
import { ExecStart, workerStreams } from "@hearth/machine";
import type { FastifyReply, FastifyRequest } from "fastify";
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { answers, closed, MachineParams } from "../http/schemas.ts";
import { checkRequest } from "../http/validation.ts";
import type { SessionRelay } from "./session-relay.ts";

const { machine_id: _exec, ...execFields } = ExecStart.properties;
const { machine_id: _attach, ...attachFields } = workerStreams.attach.properties;
const ExecMessage = Type.Object(execFields, closed);
const AttachMessage = Type.Object(attachFields, closed);

const protocol =
  `A WebSocket with the subprotocol exec.hearth.v1. The client first sends one text message, the JSON
of \`x-start-message\`. A refusal is one text message with an error, and the end. Everything else is binary: one byte of
channel (0 stdin, 1 stdout, 2 stderr, 3 status, 4 control, 255 close), then the channel's bytes. The status is the
last frame.`.replaceAll("\n", " ");

export function sessionRoutes(app: App, context: ApiContext): void {
  const { view, access, sessions, gate } = context;
  const route = (summary: string, start: Type.TSchema) => ({
    schema: {
      tags: ["machines"],
      summary,
      description: protocol,
      params: MachineParams,
      response: answers({
        101: Type.Unknown({ description: "The session begins.", "x-start-message": start }),
      }),
    },
  });
  const serve = async <Name extends "exec" | "attach">(
    request: FastifyRequest,
    reply: FastifyReply,
    name: Name,
    schema: Type.TSchema,
  ): Promise<void> => {
    const { app: appName, id } = request.params as Type.Static<typeof MachineParams>;
    const fact = view.machine(appName, id);
    const beganMs = context.nowMs();
    await sessions.accept(
      { request, reply, ended: gate.endedOf(request) },
      async (relay: SessionRelay, start: unknown) => {
        const { by, error } = await relay.run(async () => {
          const checked = checkRequest(schema, "body", start);
          if ("error" in checked) throw checked.error;
          return access.open(fact, name, checked.value as Parameters<typeof access.open<Name>>[2]);
        });
        request.log.info(
          {
            route: request.routeOptions.url,
            app: appName,
            machine_id: id,
            ended_by: by,
            ms: context.nowMs() - beganMs,
            ...(error === undefined ? {} : { code: error.code }),
          },
          "session",
        );
      },
    );
  };

  app.get(
    "/v1/apps/:app/machines/:id/exec/stream",
    route("Start a program in a machine, with its streams", ExecMessage),
    (request, reply) => serve(request, reply, "exec", ExecMessage),
  );
  app.get(
    "/v1/apps/:app/machines/:id/attach/stream",
    route("The streams of the machine's own program", AttachMessage),
    (request, reply) => serve(request, reply, "attach", AttachMessage),
  );
}
