/** The guest of the contract suite as a function: says what the busybox one says. */
import type { SimGuestFactory } from "../sim/sim-machine.ts";

export const simEchoGuest: SimGuestFactory = (port, state) => {
  let value = typeof state === "string" ? state : "";
  let partial = "";
  const say = (line: string) => port.send(Buffer.from(`${line}\n`));
  const obey = (line: string) => {
    if (line === "poweroff") return port.powerOff();
    if (line === "panic") return port.panic();
    if (line === "get") return say(`value ${value}`);
    if (line.startsWith("set ")) value = line.slice("set ".length);
    say(`echo ${line}`);
  };
  if (state === null) say("ready");
  return {
    receive(bytes) {
      const lines = (partial + bytes.toString("latin1")).split("\n");
      partial = lines.pop() ?? "";
      for (const line of lines) obey(line);
    },
    powerButton: () => undefined,
    save: () => value,
  };
};
