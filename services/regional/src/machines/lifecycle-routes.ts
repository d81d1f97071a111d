/** Start, stop, restart and signal. */
import { HearthError } from "@hearth/errors";
import { DurationInput } from "@hearth/machine";
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { answers, closed, MachineParams, Ok, opt } from "../http/schemas.ts";
import { LeaseHeaders, leaseNonce } from "./lease-header.ts";
import { parseSignal, SignalInput } from "./signals.ts";
import { parseStopTimeoutMs } from "./stop-timeout.ts";

const tags = ["machines"];
const machinePath = "/v1/apps/:app/machines/:id";
const StopBody = Type.Object(
  {
    id: opt(Type.String({ description: "Sent by some clients; the path counts." })),
    signal: opt(SignalInput),
    timeout: opt(DurationInput),
  },
  closed,
);
const StartAnswer = Type.Object({
  previous_state: Type.String(),
  migrated: Type.Boolean(),
  new_host: Type.String(),
});

export function lifecycleRoutes(app: App, context: ApiContext): void {
  const { view, access } = context;

  app.post(
    `${machinePath}/start`,
    {
      schema: {
        tags,
        summary: "Start a machine",
        params: MachineParams,
        headers: LeaseHeaders,
        body: Type.Object({}, closed),
        response: answers({ 200: StartAnswer }),
      },
    },
    async ({ params, headers }) => {
      const fact = view.machine(params.app, params.id);
      await access.change(fact, "start", {}, leaseNonce(headers)).catch(asPrecondition("start"));
      return { previous_state: fact.record.state, migrated: false, new_host: "" };
    },
  );

  app.post(
    `${machinePath}/stop`,
    {
      schema: {
        tags,
        summary: "Stop a machine",
        params: MachineParams,
        headers: LeaseHeaders,
        body: StopBody,
        response: answers({ 200: Ok }),
      },
    },
    async ({ params, body, headers }) => {
      const fact = view.machine(params.app, params.id);
      const request = stopRequest(body.signal, parseStopTimeoutMs(body.timeout));
      await access.change(fact, "stop", request, leaseNonce(headers)).catch(asPrecondition("stop"));
      return { ok: true };
    },
  );

  app.post(
    `${machinePath}/restart`,
    {
      schema: {
        tags,
        summary: "Stop a machine and start it again",
        params: MachineParams,
        headers: LeaseHeaders,
        querystring: Type.Object(
          {
            timeout: opt(Type.String()),
            signal: opt(Type.String()),
            force_stop: opt(Type.Boolean()),
          },
          closed,
        ),
        body: StopBody,
        response: answers({ 200: Ok }),
      },
    },
    async ({ params, query, body, headers }) => {
      const fact = view.machine(params.app, params.id);
      const timeoutMs = parseStopTimeoutMs(query.timeout ?? body.timeout);
      const request = {
        ...stopRequest(query.signal || body.signal, timeoutMs),
        ...(query.force_stop === true ? { force: true } : {}),
      };
      await access.change(fact, "restart", request, leaseNonce(headers)).catch(asPrecondition("restart"));
      return { ok: true };
    },
  );

  app.post(
    `${machinePath}/signal`,
    {
      schema: {
        tags,
        summary: "Send a signal to the program of a machine",
        params: MachineParams,
        headers: LeaseHeaders,
        body: Type.Object({ signal: SignalInput }, closed),
        response: answers({ 200: Ok }),
      },
    },
    async ({ params, body, headers }) => {
      const fact = view.machine(params.app, params.id);
      const signal = parseSignal(body.signal, "signal");
      const nonce = leaseNonce(headers);
      await access.ask(fact, "signal", { signal, ...(nonce === undefined ? {} : { nonce }) });
      return { ok: true };
    },
  );
}

function stopRequest(signal: SignalInput | undefined, timeoutMs: number | undefined) {
  return {
    ...(signal === undefined || signal === "" ? {} : { signal: parseSignal(signal, "signal") }),
    ...(timeoutMs === undefined ? {} : { timeout_ms: timeoutMs }),
  };
}

/** Clients match on these words. */
function asPrecondition(what: "start" | "stop" | "restart"): (thrown: unknown) => never {
  return (thrown) => {
    const error = HearthError.from(thrown);
    if (error.code !== "illegal_transition") throw error;
    const state = error.details?.state;
    throw new HearthError("illegal_transition", {
      message:
        typeof state === "string"
          ? `failed_precondition: unable to ${what} machine from current state: '${state}'`
          : error.message,
      ...(error.details === undefined ? {} : { details: error.details }),
      cause: error,
    });
  };
}
