export * from "./src/ids.ts";
export * from "./src/states.ts";
