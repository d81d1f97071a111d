/** All routes of the API, in one list. */
import type { ApiContext } from "./api-context.ts";
import { appsRoutes } from "./apps-routes.ts";
import type { App } from "./http-server.ts";
import { machinesRoutes } from "./machines-routes.ts";

export function registerRoutes(app: App, context: ApiContext): void {
  for (const routes of [appsRoutes, machinesRoutes]) routes(app, context);
}
