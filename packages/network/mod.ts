export * from "./src/address-plan.ts";
export * from "./src/executor.ts";
export * from "./src/firewall-plan.ts";
export * from "./src/inventory.ts";
export * from "./src/slot-plan.ts";
