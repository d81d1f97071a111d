/** Whether a request may start a machine: by what its owner said of it, the same for the front door and the worker. */
import type { MachineConfig } from "./config.ts";

type Service = NonNullable<MachineConfig["services"]>[number];

/** Of the requests for one service. */
export const serviceAutostarts = (
  config: Pick<MachineConfig, "disable_machine_autostart">,
  service: Service,
): boolean => service.autostart !== false && config.disable_machine_autostart !== true;

/** Of the requests for any. */
export const mayAutostart = (
  config: Pick<MachineConfig, "disable_machine_autostart" | "services">,
): boolean => (config.services ?? []).some((service) => serviceAutostarts(config, service));
