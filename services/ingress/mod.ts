// What measurements run, and where commands find the authority.

export { Ingress, type IngressDeps } from "./src/ingress.ts";
export { defaultLimits, type IngressLimits } from "./src/limits.ts";
export { RouteTable } from "./src/routes/route-table.ts";
export { bufferedLines } from "./src/telemetry/access-log.ts";
export { type IngressService, type ServiceOptions, startIngressService } from "./src/testing/service.ts";
export { authorityPaths, LocalCa } from "./src/tls/local-ca.ts";
