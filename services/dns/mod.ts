// What measurements ask it with.
export { Metrics } from "./src/metrics.ts";
