/** All routes of the API, in one list. */

import type { ApiContext } from "./api-context.ts";
import { appEgressRoutes } from "./apps/app-egress-routes.ts";
import { appsRoutes } from "./apps/apps-routes.ts";
import { networksRoutes } from "./apps/networks-routes.ts";
import { certificateRoutes } from "./certificates/certificate-routes.ts";
import { absentRoutes } from "./http/absent-routes.ts";
import type { App } from "./http/http-server.ts";
import { openApiRoutes } from "./http/openapi-routes.ts";
import { platformRoutes } from "./http/platform-routes.ts";
import { cordonRoutes } from "./machines/cordon-routes.ts";
import { explainRoutes } from "./machines/explain-routes.ts";
import { inspectRoutes } from "./machines/inspect-routes.ts";
import { leaseRoutes } from "./machines/lease-routes.ts";
import { lifecycleRoutes } from "./machines/lifecycle-routes.ts";
import { machinesRoutes } from "./machines/machines-routes.ts";
import { metadataRoutes } from "./machines/metadata-routes.ts";
import { waitRoutes } from "./machines/wait-routes.ts";
import { imagesRoutes } from "./nodes/images-routes.ts";
import { inspectionRoutes } from "./nodes/inspection-routes.ts";
import { joinRoutes } from "./nodes/join-routes.ts";
import { meshRoutes } from "./nodes/mesh-routes.ts";
import { nodeRoutes } from "./nodes/node-routes.ts";
import { execRoutes } from "./sessions/exec-routes.ts";
import { filesRoutes } from "./sessions/files-routes.ts";
import { logsRoutes } from "./sessions/logs-routes.ts";
import { sessionRoutes } from "./sessions/session-routes.ts";
import { sshRoutes } from "./tokens/ssh-routes.ts";
import { tokensRoutes } from "./tokens/tokens-routes.ts";

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
