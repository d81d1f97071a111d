/** The egress policy of an app: the default of its machines. */
import { EgressPolicyInput } from "@hearth/machine";
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { AppParams, answers } from "../http/schemas.ts";
import { setAppEgress, shownEgress } from "./app-egress.ts";

const path = "/v1/apps/:app/egress";
const schema = {
  ...{ tags: ["apps"], params: AppParams },
  response: answers({ 200: EgressPolicyInput }),
};

export function appEgressRoutes(app: App, context: ApiContext): void {
  app.get(
    path,
    { schema: { ...schema, summary: "Show what the machines of an app may send by default" } },
    async ({ params }) => shownEgress(context.view.app(params.app)) ?? {},
  );

  app.put(
    path,
    {
      schema: {
        ...schema,
        summary: "Say what the machines of an app may send by default; it holds at once",
        body: EgressPolicyInput,
      },
    },
    async ({ params, body }) => shownEgress(await setAppEgress(context, params.app, body)) ?? {},
  );

  app.delete(
    path,
    { schema: { ...schema, summary: "Leave what the machines of an app may send to the machines" } },
    async ({ params }) => shownEgress(await setAppEgress(context, params.app, {})) ?? {},
  );
}
