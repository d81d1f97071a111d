/** Cordon and uncordon: a machine that is marked runs on, and front doors and private names pass it over. */
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { answers, MachineParams, Ok } from "../http/schemas.ts";
import { LeaseHeaders, leaseNonce } from "./lease-header.ts";

const summaries = {
  cordon: "Mark a machine as one that is to get no new traffic; it runs on",
  uncordon: "Take the mark of a cordon back",
} as const;

export function cordonRoutes(app: App, { view, access }: ApiContext): void {
  for (const verb of ["cordon", "uncordon"] as const)
    app.post(
      `/v1/apps/:app/machines/:id/${verb}`,
      {
        schema: {
          tags: ["machines"],
          summary: summaries[verb],
          description:
            "Kept and shown as `cordoned`. No part of this version routes traffic, so none honours it yet.",
          params: MachineParams,
          headers: LeaseHeaders,
          response: answers({ 200: Ok }),
        },
      },
      async ({ params, headers }) => {
        await access.change(view.machine(params.app, params.id), verb, {}, leaseNonce(headers));
        return { ok: true };
      },
    );
}
