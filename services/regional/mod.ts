// What measurements run: the indexes and the rule by which machines are placed.
export { ClusterView } from "./src/cluster-view.ts";
export { nodeFactLimitMs } from "./src/node-index.ts";
export { type PlacementRequest, rankNodes } from "./src/placement.ts";
export { RegionalApi, type RegionalApiDeps } from "./src/regional-api.ts";
export { readSigningKey } from "./src/signing-key.ts";
