export * from "./src/address-plan.ts";
