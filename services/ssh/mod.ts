export { defaultLimits, type SshLimits } from "./src/limits.ts";
export { SshGateway, type SshGatewayDeps } from "./src/ssh-gateway.ts";
