/** A fleet on one machine: hosts in namespaces, the network between them, and all that can go wrong with either. */
export type { Faults } from "./src/fault-rules.ts";
export { Fleet } from "./src/fleet.ts";
export { sweepFleets } from "./src/fleet-claim.ts";
export { FleetHost } from "./src/fleet-host.ts";
export type { HostFiles } from "./src/host-files.ts";
export { type HostProcess, type ServiceName, serviceNames } from "./src/host-processes.ts";
export { type Answer, Region, type RegionPlan } from "./src/region.ts";
export type { Finished } from "./src/run-command.ts";
export { type FleetOptions, type RunningFleet, startFleet } from "./src/start-fleet.ts";
