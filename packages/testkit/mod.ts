export {
  type Fleet,
  type FleetHost,
  type Region,
  type RunningFleet,
  type ServiceName,
  serviceNames,
  startFleet,
} from "@hearth/fleet";
export { freePort } from "./src/free-port.ts";
export { type Pebble, type PebbleOptions, startPebble } from "./src/pebble.ts";
export {
  demoImage,
  type Finished,
  finish,
  hostResources,
  importDemo,
  type Json,
  type Platform,
  type PlatformOptions,
  repositoryRoot,
  startPlatform,
} from "./src/platform.ts";
export { type Registry, startRegistry } from "./src/registry.ts";
export { selfSigned } from "./src/self-signed.ts";
export { until } from "./src/until.ts";
