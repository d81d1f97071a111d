/** What a name that a client asks for stands for: pure. The Host header is what an unknown client wrote. */

export type HostName =
  | { readonly kind: "app"; readonly app: string }
  | { readonly kind: "machine"; readonly machineId: string; readonly internalPort: number };

/** RFC 9110 7.2: a name with an optional port. Lower case and without the last dot; undefined when it is no name. */
export function parseHost(header: string): string | undefined {
  const found = /^([a-z0-9](?:[a-z0-9.-]{0,252}))(?::\d{1,5})?$/i.exec(header);
  const name = found?.[1]?.toLowerCase().replace(/\.$/, "");
  return name === undefined || name.includes("..") || name === "" ? undefined : name;
}

/** Undefined for what is not one label below the domain. */
export function readHostName(host: string, domain: string): HostName | undefined {
  if (!host.endsWith(`.${domain}`)) return undefined;
  const label = host.slice(0, -domain.length - 1);
  if (label === "" || label.includes(".")) return undefined;
  const machine = /^(\d{1,5})-([0-9a-f]{14})$/.exec(label);
  const port = Number(machine?.[1]);
  if (machine?.[2] === undefined || port < 1 || port > 65_535) return { kind: "app", app: label };
  return { kind: "machine", machineId: machine[2], internalPort: port };
}
