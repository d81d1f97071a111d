// What measurements run: the indexes and the rule by which machines are placed.

export { nodeFactLimitMs } from "./src/placement/node-index.ts";
export { type PlacementRequest, rankNodes } from "./src/placement/placement.ts";
export { RegionalApi, type RegionalApiDeps } from "./src/regional-api.ts";
export { ClusterView } from "./src/state/cluster-view.ts";
export { readSigningKey } from "./src/tokens/signing-key.ts";
