/** What doctor says of the bus, from what the host agent knows: its servers, and the copies of the state. */
import type { AgentStatus } from "@hearth/host-agent";
import type { Finding } from "./doctor-finding.ts";

export function busFindings(bus: AgentStatus["bus"]): Finding[] {
  if (bus === null) return [];
  const { server, servers, members, copies, current_copies = 0, server_version, syncs_always } = bus;
  const findings: Finding[] = [
    {
      name: "bus",
      level: "ok",
      message: `${ownServer[server]} It uses ${servers.join(", ")}.`,
    },
  ];
  if (server_version !== undefined) findings.push(diskFinding(server_version, syncs_always === true));
  if (copies !== undefined) findings.push(copyFinding(copies, current_copies));
  // One server hears no other; whether hosts elsewhere use it is not known here, but its address says whether they can.
  const isOpen = members.length > 1 || servers.some((url) => !/^nats:\/\/(127\.|\[::1\])/.test(url));
  if (isOpen)
    findings.push({
      name: "bus",
      level: "warning",
      message: "What hosts say to each other on the bus is not encrypted.",
      advice: "Let its ports be reached only over a network that you trust.",
    });
  return findings;
}

const ownServer = {
  none: "This host runs no server of the bus.",
  alone: "This host runs the only server of the bus.",
  member: "This host runs one of the servers of the bus.",
} as const;

/** Either way what is acknowledged is on disk; by whom is what differs. */
function diskFinding(version: string, syncsAlways: boolean): Finding {
  const how = syncsAlways
    ? "has each change on disk before it confirms it"
    : "confirms a change before it is on its disk, and has no setting for that; the API waits until it is on its own";
  return { name: "bus", level: "ok", message: `The server is nats-server ${version}, which ${how}.` };
}

function copyFinding(copies: number, current: number): Finding {
  const name = "bus";
  if (current < copies)
    return {
      name,
      level: "warning",
      message: `The bus keeps ${copies} copies of the state; ${current} are current.`,
      advice: "The others catch up by themselves once their hosts are up; see that they are.",
    };
  if (copies === 1)
    return {
      name,
      level: "ok",
      message: "The bus keeps one copy of the state; a region with three bus hosts keeps three.",
    };
  return { name, level: "ok", message: `The bus keeps ${copies} copies of the state; all are current.` };
}
