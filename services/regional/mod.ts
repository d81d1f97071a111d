export { RegionalApi, type RegionalApiDeps } from "./src/regional-api.ts";
