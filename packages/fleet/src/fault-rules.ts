/**
 * Packets that a fleet's underlay loses, as one table of nftables on the switch. A host cannot tell a dropped frame
 * from a dead cable, whatever its own firewall says, and the rules stay when the host is lost. Pure; applied as a whole.
 */
/** An end of the underlay. */
export interface Port {
  /** Of the switch: the name of a host. */
  readonly port: string;
  readonly mac: string;
}

export interface Faults {
  /** What `from` sends to `to` does not arrive. */
  readonly cuts: readonly { readonly from: Port; readonly to: Port }[];
  /** Of what goes from one to the other, this share is dropped at random. 0 to 100. */
  readonly losses: readonly { readonly from: Port; readonly to: Port; readonly percent: number }[];
  /**
   * Of what goes from one to the other, datagrams of more than so many bytes of IP vanish, and nobody is told. TCP of
   * the hosts themselves is left alone: its segments pass here in bunches, which say nothing of how big each one is.
   */
  readonly narrows: readonly { readonly from: Port; readonly to: Port; readonly bytes: number }[];
}

export const noFaults: Faults = { cuts: [], losses: [], narrows: [] };

/** Its family and its name. */
export const faultTable = "bridge faults";

/** What `nft -f -` takes: the table is this and nothing else, in one transaction. */
export function renderFaults({ cuts, losses, narrows }: Faults): string {
  const rules = [
    // Else a one-way cut would cut both ways, as soon as one end has to ask where the other is.
    "ether type arp accept",
    ...cuts.map(({ from, to }) => `${between(from, to)} counter drop`),
    ...losses.map(
      ({ from, to, percent }) =>
        `${between(from, to)} numgen random mod 1000 < ${Math.round(percent * 10)} counter drop`,
    ),
    ...narrows.map(
      ({ from, to, bytes }) => `${between(from, to)} meta l4proto udp meta length > ${bytes} counter drop`,
    ),
  ];
  return [
    `add table ${faultTable}`,
    `delete table ${faultTable}`,
    `add table ${faultTable}`,
    `add chain ${faultTable} forward { type filter hook forward priority filter; policy accept; }`,
    ...rules.map((rule) => `add rule ${faultTable} forward ${rule}`),
    "",
  ].join("\n");
}

/** By who sent it, so that what came over a slow cable is known too; by where it goes, so that broadcasts are. */
const between = (from: Port, to: Port): string => `ether saddr ${from.mac} oifname "${to.port}"`;
