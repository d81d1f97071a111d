// What measurements run, and where commands find the authority.
export { bufferedLines } from "./src/access-log.ts";
export { Ingress, type IngressDeps } from "./src/ingress.ts";
export { defaultLimits, type IngressLimits } from "./src/limits.ts";
export { authorityPaths, LocalCa } from "./src/local-ca.ts";
export { RouteTable } from "./src/route-table.ts";
export { type IngressService, type ServiceOptions, startIngressService } from "./src/testing-service.ts";
