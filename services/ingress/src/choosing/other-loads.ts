/**
 * What the front doors of other hosts, and other processes of this one, have at a machine: the part of its load that
 * this process does not see itself. Asked for each choice, so it answers at once and from memory.
 */
export interface OtherLoads {
  /**
   * Requests and connections under way, without those of this process. 0 where nothing is known.
   * @param internalPort of one service; all services of the machine when absent
   */
  of(machineId: string, internalPort?: number): number;
}

export const noOtherLoads: OtherLoads = { of: () => 0 };
