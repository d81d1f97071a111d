/** Two guests on one host, as namespaces: behind Hearth's slots, or wired by hand. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { promisify } from "node:util";
import { namespacePath, type SlotPlan, slotTap, slotWire } from "@hearth/network";

export interface Pair {
  readonly from: string;
  readonly to: string;
  readonly address: string;
}

const run = promisify(execFile);
const ip = (line: string): Promise<unknown> => run("ip", line.split(" "));
const mib = 1 << 20;
const streamMs = 500;
const port = 7000;

async function guest(name: string, v6: string): Promise<void> {
  for (const line of [
    "link set lo up",
    "link set eth0 up",
    `addr add ${v6}/128 dev eth0 nodad`,
    "route add fe80::1 dev eth0",
    "route add default via fe80::1 dev eth0",
  ])
    await ip(`-n ${name} ${line}`);
}

/** In place of its tap each slot gets an end of a pair, of the same name and wired in the same way. */
export async function slotWired(a: SlotPlan, b: SlotPlan): Promise<Pair> {
  for (const [name, plan] of [
    ["by-slot-a", a],
    ["by-slot-b", b],
  ] as const) {
    const { slot, guest: told } = plan;
    await ip(`netns add ${name}`);
    await ip(`-n ${slot} link del ${slotTap}`);
    await ip(`-n ${slot} link add ${slotTap} mtu ${told.mtu} type veth peer name eth0 netns ${name}`);
    await ip(`-n ${name} link set eth0 address ${told.mac} mtu ${told.mtu}`);
    await ip(`-n ${slot} link set ${slotTap} addrgenmode none up`);
    const tc = (line: string) => run("tc", ["-n", slot, ...line.split(" ")]);
    for (const line of slotWire(slotTap, "up0")) await tc(line);
    // The filter of the other end names the interface that went.
    await tc("filter del dev up0 ingress");
    for (const line of slotWire("up0", slotTap).slice(1)) await tc(line);
    await guest(name, told.addressV6.split("/")[0] ?? "");
  }
  return { from: "by-slot-a", to: "by-slot-b", address: b.guest.addressV6.split("/")[0] ?? "" };
}

export async function handWired(): Promise<Pair> {
  for (const [index, name] of ["by-hand-a", "by-hand-b"].entries()) {
    const v6 = `fd00:bbbb::${index + 2}`;
    await ip(`netns add ${name}`);
    await ip(`link add hand${index} mtu 1420 type veth peer name eth0 netns ${name}`);
    await ip(`-n ${name} link set eth0 mtu 1420`);
    await ip(`addr add fe80::1/64 dev hand${index} nodad`);
    await ip(`link set hand${index} up`);
    await ip(`route add ${v6}/128 dev hand${index}`);
    await guest(name, v6);
  }
  return { from: "by-hand-a", to: "by-hand-b", address: "fd00:bbbb::3" };
}

const receiver = `let n = 0, t = 0;
require("net").createServer((s) => { s.on("data", (d) => { t ||= performance.now(); n += d.length; });
  s.on("end", () => { console.log(n / ${mib} / ((performance.now() - t) / 1000)); process.exit(0); });
  s.on("error", () => process.exit(1)); }).listen(${port}, "::", () => console.log("up"));`;
const sender = (address: string) => `const b = Buffer.alloc(${mib / 4});
const s = require("net").connect(${port}, ${JSON.stringify(address)}, () => {
  const end = performance.now() + ${streamMs};
  const push = () => { if (performance.now() > end) return s.end(); s.write(b, push); };
  push(); push(); });
s.on("close", () => process.exit(0)).on("error", () => process.exit(1));
setTimeout(() => process.exit(2), ${streamMs * 20});`;

/** One TCP stream for half a second, as its receiver counts it. */
export async function mibPerSecond({ from, to, address }: Pair): Promise<number> {
  const enter = (name: string) => [`--net=${namespacePath(name)}`, process.execPath, "-e"];
  const server = spawn("nsenter", [...enter(to), receiver], { stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  server.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    said += chunk;
  });
  await once(server.stdout, "data");
  const ended = once(server, "exit");
  try {
    await run("nsenter", [...enter(from), sender(address)]);
    await ended;
  } finally {
    server.kill();
  }
  return Number(said.split("\n")[1]);
}
