/** All routes of the API, in one list. */
import { absentRoutes } from "./absent-routes.ts";
import type { ApiContext } from "./api-context.ts";
import { appsRoutes } from "./apps-routes.ts";
import type { App } from "./http-server.ts";
import { inspectRoutes } from "./inspect-routes.ts";
import { lifecycleRoutes } from "./lifecycle-routes.ts";
import { machinesRoutes } from "./machines-routes.ts";
import { metadataRoutes } from "./metadata-routes.ts";
import { platformRoutes } from "./platform-routes.ts";
import { waitRoutes } from "./wait-routes.ts";

const all = [
  appsRoutes,
  machinesRoutes,
  lifecycleRoutes,
  waitRoutes,
  inspectRoutes,
  metadataRoutes,
  platformRoutes,
  absentRoutes,
];

export function registerRoutes(app: App, context: ApiContext): void {
  for (const routes of all) routes(app, context);
}
