export { hostBootMs } from "./src/boot-clock.ts";
export { releaseStartupMemory } from "./src/startup-memory.ts";
export { stopSignal, untilAborted } from "./src/stop-signal.ts";
