/** Facts of machines as a worker says them, with only what a test cares about given. */
import { factKeys, type MachineConfig, type MachineFact, type MachineState } from "@hearth/machine";
import { type ClusterPrefix, formatMachineAddress } from "@hearth/network";

export interface MachineWish {
  readonly app: string;
  /** Also the end of its id. */
  readonly machine: number;
  readonly network: number;
  readonly nodeId?: string;
  readonly host?: number;
  readonly region?: string;
  readonly state?: MachineState;
  readonly config?: Partial<MachineConfig>;
}

export const machineId = (machine: number): string => machine.toString(16).padStart(14, "0");

export function machineFact(prefix: ClusterPrefix, wish: MachineWish) {
  const { app, machine, network, nodeId = "n1", host = 1, region = "here", state = "started" } = wish;
  const record = {
    ...{ id: machineId(machine), name: `m${machine}`, state, region, host_status: "ok", cordoned: false },
    private_ip: formatMachineAddress({ prefix, host, network, machine }),
    config: { image: "demo", ...wish.config },
  };
  const fact = {
    ...{ node_id: nodeId, app, revision: 1, record, egress_ip: `100.64.${machine >> 8}.${machine & 255}` },
  } as unknown as MachineFact;
  return { key: factKeys.machine(nodeId, record.id), fact };
}
