/**
 * "The internet" beside a host of a fleet: a network namespace of the host's own, with addresses that are kept for
 * documentation (RFC 5737, RFC 3849), servers at them, and the resolver that the host asks. It goes with the host.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { FleetHost } from "@hearth/fleet";

const space = "internet";
const resolver = "198.51.100.53";
const readyLimitMs = 20_000;

/** Of three places of the internet, and of two that no guest may reach. Each has a server at every port of `ports`. */
export const places = {
  one: { v4: "203.0.113.10", v6: "2001:db8:1::10" },
  other: { v4: "203.0.113.20", v6: "2001:db8:1::20" },
  far: { v4: "198.51.100.99", v6: "2001:db8:2::99" },
  metadata: { v4: "169.254.169.254", v6: "fd00:ec2::254" },
  private: { v4: "10.9.9.9", v6: "fd99::9" },
} as const;
/** The host's own, on the way there. */
export const hostAddress = { v4: "198.51.100.1", v6: "2001:db8:ffff::1" } as const;
export const ports = { http: 80, other: 8443, dns: 53 } as const;

/** Names of public zones, and where they lead. Their TTL is shorter than a name is ever open for. */
export const names = {
  allowed: "allowed.example",
  below: "api.wild.example",
  other: "other.example",
} as const;
const records = { [names.allowed]: places.one, [names.below]: places.far, [names.other]: places.other };
const ttlSeconds = 2;

const serverProgram = `
const { createServer } = require("node:net");
let waiting = 2;
const ready = () => { waiting -= 1; if (waiting === 0) console.log("ready"); };
for (const port of [${ports.http}, ${ports.other}])
  createServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", () => socket.end("HTTP/1.0 200 OK\\r\\n\\r\\ninternet from " + socket.remoteAddress + "\\n"));
  }).listen(port, "::", ready);
`;

export interface Internet {
  /** The names that the resolver out there was asked for. */
  asked(): Promise<string>;
}

/** Before anything of Hearth runs on the host, which is to know its resolver. */
export async function startInternet(host: FleetHost): Promise<Internet> {
  const work = join(host.files.directory, space);
  mkdirSync(work);
  const [resolv, log] = [join(work, "resolv.conf"), join(work, "queries")];
  writeFileSync(resolv, `nameserver ${resolver}\n`);
  const addresses = [...Object.values(places), { v4: resolver, v6: "2001:db8:ffff::53" }];
  await sh(
    host,
    `mount --bind ${resolv} /etc/resolv.conf
    ip netns add ${space}
    ip link add ${space} type veth peer name eth0 netns ${space}
    ip addr add ${hostAddress.v4}/30 dev ${space}
    ip -6 addr add ${hostAddress.v6}/64 dev ${space} nodad
    ip link set ${space} up
    ip -n ${space} link set lo up
    ip -n ${space} addr add 198.51.100.2/30 dev eth0
    ip -n ${space} -6 addr add 2001:db8:ffff::2/64 dev eth0 nodad
    ip -n ${space} link set eth0 up
    ip -n ${space} -6 route add default via ${hostAddress.v6}
    ${addresses
      .map(
        ({ v4, v6 }) => `ip -n ${space} addr add ${v4}/32 dev lo
    ip -n ${space} -6 addr add ${v6}/128 dev lo nodad
    ip route add ${v4} via 198.51.100.2
    ip -6 route add ${v6} via 2001:db8:ffff::2`,
      )
      .join("\n")}`,
  );
  const inside = ["ip", "netns", "exec", space];
  await start(host, [...inside, process.execPath, "-e", serverProgram]);
  const hosts = Object.entries(records).map(
    ([name, { v4, v6 }]) => `--host-record=${name},${v4},${v6},${ttlSeconds}`,
  );
  const dnsmasq = ["--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file=", "--user=root"];
  const listening = addresses.flatMap(({ v4, v6 }) => [v4, v6]).join(",");
  await sh(
    host,
    [
      ...[...inside, "dnsmasq", ...dnsmasq, `--listen-address=${listening}`, "--bind-interfaces"],
      ...["--log-queries", `--log-facility=${log}`, ...hosts],
    ].join(" "),
  );
  return { asked: async () => await sh(host, `cat ${log}`) };
}

async function sh(host: FleetHost, script: string): Promise<string> {
  const { code, stdout, stderr } = await host.run(["bash", "-euc", script]);
  if (code !== 0) throw new Error(`the internet: ${stderr}`);
  return stdout;
}

/** Until the host ends. */
async function start(host: FleetHost, command: readonly string[]): Promise<void> {
  const child = spawn(host.files.enterPath, command, { stdio: ["ignore", "pipe", "inherit"] });
  await once(child.stdout, "data", { signal: AbortSignal.timeout(readyLimitMs) });
}
