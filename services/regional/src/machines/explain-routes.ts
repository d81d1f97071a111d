/** What a machine's worker did for it, step by step, and why it failed. Only the worker knows; no replica has it. */
import { type MachineExplanation, machineStates, runStates, runStepStates } from "@hearth/machine";
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { answers, closed, MachineParams, opt } from "../http/schemas.ts";
import { PlacementAnswer } from "./machine-schemas.ts";

const Instant = Type.String({ format: "date-time" });
const Ended = Type.Union([Instant, Type.Null()], { description: "Null while it has not ended." });
const Duration = Type.Integer({ description: "Milliseconds; until now while it has not ended." });

const Step = Type.Object({
  name: Type.String(),
  state: Type.Enum([...runStepStates]),
  attempts: Type.Integer(),
  begun_at: Instant,
  ended_at: Ended,
  duration_ms: Duration,
  reason: Type.Union([Type.String(), Type.Null()], { description: "Why it was tried again, or failed." }),
});
const Failure = Type.Object({
  code: Type.String({ description: "A code of the error registry." }),
  step: Type.String(),
  message: Type.String(),
  attempts: opt(Type.Integer()),
  console_tail: opt(Type.String({ description: "The end of what the guest's kernel said; printable." })),
});
const Explanation = Type.Object({
  machine_id: Type.String(),
  state: Type.Enum([...machineStates]),
  runs: Type.Array(
    Type.Object({
      run_id: Type.String(),
      kind: Type.String(),
      state: Type.Enum([...runStates]),
      begun_at: Instant,
      ended_at: Ended,
      duration_ms: Duration,
      error: Type.Union([Failure, Type.Null()]),
      steps: Type.Array(Step),
    }),
    { description: "Newest first." },
  ),
  placement: opt(PlacementAnswer),
});

export function explainRoutes(app: App, { view, access }: ApiContext): void {
  app.get(
    "/v1/apps/:app/machines/:id/explain",
    {
      schema: {
        tags: ["machines"],
        summary: "What was done for a machine, step by step, and why it failed",
        params: MachineParams,
        querystring: Type.Object(
          { limit: opt(Type.Integer({ minimum: 1, maximum: 20, default: 10, description: "Runs." })) },
          closed,
        ),
        response: answers({ 200: Explanation }),
      },
    },
    async ({ params, query: { limit = 10 } }) => {
      const told = await access.ask(view.machine(params.app, params.id), "explain", { limit });
      return told as MachineExplanation;
    },
  );
}
