export { BackgroundLoop } from "./src/background-loop.ts";
export { hostBootMs, hostBootStepMs } from "./src/boot-clock.ts";
export { leaveNothing } from "./src/leave-nothing.ts";
export { releaseStartupMemory } from "./src/startup-memory.ts";
export { stopSignal, untilAborted } from "./src/stop-signal.ts";
