/** Waiting for a machine over HTTP: up to a minute a request. */
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import { closedSignal } from "../http/closed-signal.ts";
import type { App } from "../http/http-server.ts";
import { answers, closed, MachineParams, opt } from "../http/schemas.ts";
import { invalid } from "../http/validation.ts";
import { heardMachine, type WaitedState, waitForMachine } from "./machine-wait.ts";

const waitable = ["started", "stopped", "suspended", "destroyed", "failed", "created", "settled"] as const;
const defaultSeconds = 60;
const longestSeconds = 60;

const WaitQuery = Type.Object(
  {
    state: opt(
      Type.Array(Type.Enum([...waitable]), {
        description: "May be repeated. `settled` is any state in which a machine may rest. Default: started.",
      }),
    ),
    timeout: opt(Type.String({ description: "Seconds, 1 to 60, such as `30` or `30s`. Default: 60." })),
    instance_id: opt(Type.String()),
    version: opt(Type.String({ description: "The same as instance_id." })),
    from_event_id: opt(Type.String({ description: "States up to this event do not count." })),
  },
  closed,
);

export function waitRoutes(app: App, context: ApiContext): void {
  app.get(
    "/v1/apps/:app/machines/:id/wait",
    {
      schema: {
        tags: ["machines"],
        summary: "Wait until a machine is in a state",
        params: MachineParams,
        querystring: WaitQuery,
        response: answers({ 200: Type.Object({ ok: Type.Boolean(), state: Type.String() }) }),
      },
    },
    async ({ params, query, raw }, reply) => {
      const endMs = performance.now() + parseTimeoutSeconds(query.timeout) * 1_000;
      const signal = closedSignal(raw, reply.raw);
      const fact = await heardMachine(context.view, params, endMs - performance.now(), signal);
      const states: readonly WaitedState[] = query.state?.length ? query.state : ["started"];
      const wait = {
        states,
        timeoutMs: Math.max(1, endMs - performance.now()),
        instanceId: query.instance_id || query.version || undefined,
        fromEventId: query.from_event_id || undefined,
      };
      const state = await waitForMachine(context, fact, wait, signal);
      return { ok: true, state };
    },
  );
}

function parseTimeoutSeconds(text: string | undefined): number {
  if (text === undefined || text === "") return defaultSeconds;
  const seconds = /^(\d{1,6})s?$/.exec(text)?.[1];
  if (seconds !== undefined && Number(seconds) >= 1 && Number(seconds) <= longestSeconds)
    return Number(seconds);
  throw invalid("timeout", `must be whole seconds from 1 to ${longestSeconds}`);
}
