export * from "./src/config.ts";
export * from "./src/config-schema.ts";
export * from "./src/duration.ts";
export * from "./src/exec-frames.ts";
export * from "./src/ids.ts";
export * from "./src/record.ts";
export * from "./src/restart-policy.ts";
export * from "./src/states.ts";
