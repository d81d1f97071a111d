export * from "./src/address-plan.ts";
export * from "./src/egress-names.ts";
export {
  type EgressElement,
  type EgressPolicy,
  type EgressSet,
  egressElements,
  heedsNames,
} from "./src/egress-plan.ts";
export * from "./src/executor.ts";
export * from "./src/firewall-plan.ts";
export { type NetworkInventory, readNetworkInventory } from "./src/inventory.ts";
export * from "./src/ip-text.ts";
export * from "./src/mesh-diff.ts";
export * from "./src/mesh-executor.ts";
export * from "./src/mesh-plan.ts";
export * from "./src/mesh-rotation.ts";
export * from "./src/slot-plan.ts";
