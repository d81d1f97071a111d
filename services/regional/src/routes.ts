/** All routes of the API, in one list. */
import { absentRoutes } from "./absent-routes.ts";
import type { ApiContext } from "./api-context.ts";
import { appEgressRoutes } from "./app-egress-routes.ts";
import { appsRoutes } from "./apps-routes.ts";
import { certificateRoutes } from "./certificate-routes.ts";
import { cordonRoutes } from "./cordon-routes.ts";
import { execRoutes } from "./exec-routes.ts";
import { explainRoutes } from "./explain-routes.ts";
import { filesRoutes } from "./files-routes.ts";
import type { App } from "./http-server.ts";
import { imagesRoutes } from "./images-routes.ts";
import { inspectRoutes } from "./inspect-routes.ts";
import { inspectionRoutes } from "./inspection-routes.ts";
import { joinRoutes } from "./join-routes.ts";
import { leaseRoutes } from "./lease-routes.ts";
import { lifecycleRoutes } from "./lifecycle-routes.ts";
import { logsRoutes } from "./logs-routes.ts";
import { machinesRoutes } from "./machines-routes.ts";
import { meshRoutes } from "./mesh-routes.ts";
import { metadataRoutes } from "./metadata-routes.ts";
import { networksRoutes } from "./networks-routes.ts";
import { nodeRoutes } from "./node-routes.ts";
import { openApiRoutes } from "./openapi-routes.ts";
import { platformRoutes } from "./platform-routes.ts";
import { sessionRoutes } from "./session-routes.ts";
import { sshRoutes } from "./ssh-routes.ts";
import { tokensRoutes } from "./tokens-routes.ts";
import { waitRoutes } from "./wait-routes.ts";

const all = [
  appsRoutes,
  certificateRoutes,
  appEgressRoutes,
  networksRoutes,
  machinesRoutes,
  lifecycleRoutes,
  leaseRoutes,
  cordonRoutes,
  waitRoutes,
  inspectRoutes,
  explainRoutes,
  inspectionRoutes,
  metadataRoutes,
  execRoutes,
  sessionRoutes,
  logsRoutes,
  filesRoutes,
  imagesRoutes,
  platformRoutes,
  nodeRoutes,
  meshRoutes,
  joinRoutes,
  tokensRoutes,
  sshRoutes,
  openApiRoutes,
  absentRoutes,
];

export function registerRoutes(app: App, context: ApiContext): void {
  for (const routes of all) routes(app, context);
}
