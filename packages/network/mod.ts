export * from "./src/address-plan.ts";
export {
  covers,
  type EgressElement,
  type EgressSet,
  egressElements,
  type NameAnswer,
  nameElements,
} from "./src/egress-plan.ts";
export * from "./src/executor.ts";
export * from "./src/firewall-plan.ts";
export * from "./src/inventory.ts";
export * from "./src/ip-text.ts";
export * from "./src/mesh-diff.ts";
export * from "./src/mesh-executor.ts";
export * from "./src/mesh-plan.ts";
export * from "./src/mesh-rotation.ts";
export * from "./src/slot-plan.ts";
