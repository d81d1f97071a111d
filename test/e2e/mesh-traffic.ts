/** What goes over the mesh between hosts of a fleet while a test does something to it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { FleetHost } from "@hearth/testkit";

const port = 7_007;
const readyLimitMs = 20_000;

/** Sends datagrams back, and tells who sent bytes how many they were. */
const answerProgram = `
require("node:dgram").createSocket("udp6").on("message", function (text, from) {
  this.send(text, from.port, from.address);
}).bind(${port}, "::");
require("node:net").createServer({ allowHalfOpen: true }, (socket) => {
  let bytes = 0;
  socket.on("error", () => undefined).on("data", (chunk) => { bytes += chunk.length; });
  socket.on("end", () => socket.end(String(bytes)));
}).listen(${port}, "::", () => console.log("ready"));
`;
/** Numbered datagrams until its input ends; what has not come back a second later is lost. */
const talkProgram = `
const socket = require("node:dgram").createSocket("udp6");
const [address, everyMs] = process.argv.slice(1);
let sent = 0, last, longest = 0;
const back = new Set();
socket.on("error", () => undefined).on("message", (text) => {
  const now = performance.now();
  if (last === undefined) console.log("ready");
  else longest = Math.max(longest, now - last);
  last = now;
  back.add(text.readUInt32BE(0));
});
const timer = setInterval(() => {
  const text = Buffer.alloc(64);
  text.writeUInt32BE(sent++);
  socket.send(text, ${port}, address, () => undefined);
}, Number(everyMs));
process.stdin.resume().on("end", () => {
  clearInterval(timer);
  setTimeout(() => {
    console.log(JSON.stringify({ sent, lost: sent - back.size, longest_ms: longest }));
    process.exit(0);
  }, 1_000);
});
`;
const sendProgram = `
const [address, bytes, pauseMs] = process.argv.slice(1);
const socket = require("node:net").connect(${port}, address);
const chunk = Buffer.alloc(Number(pauseMs) > 0 ? 4_096 : 65_536);
let left = Number(bytes);
const begun = performance.now();
const push = () => {
  while (left > 0) {
    const now = Math.min(left, chunk.length);
    left -= now;
    const goesOn = socket.write(chunk.subarray(0, now));
    if (Number(pauseMs) > 0) return setTimeout(push, Number(pauseMs));
    if (!goesOn) return socket.once("drain", push);
  }
  socket.end();
};
let answer = "";
socket.on("connect", push).on("data", (text) => { answer += text; }).on("error", (error) => {
  console.log(JSON.stringify({ error: error.code }));
  process.exit(1);
});
socket.on("close", () => console.log(JSON.stringify({ bytes: Number(answer), ms: performance.now() - begun })));
`;
const onceProgram = `
const socket = require("node:dgram").createSocket("udp6");
const [address, bytes, limitMs] = process.argv.slice(1).map((text) => isNaN(text) ? text : Number(text));
const send = () => socket.send(Buffer.alloc(bytes), ${port}, address, () => undefined);
socket.on("error", () => undefined).on("message", ({ length }) => process.exit(length === bytes ? 0 : 1));
send();
setInterval(send, 100);
setTimeout(() => process.exit(2), limitMs);
`;

export interface Loss {
  readonly sent: number;
  readonly lost: number;
  /** The longest time in which nothing came back. */
  readonly longest_ms: number;
}

/** Until the host or the test ends. */
export async function answerOn(host: FleetHost): Promise<void> {
  await start(host, [process.execPath, "-e", answerProgram]);
}

/** Resolves when the first datagram has come back. */
export async function talk(from: FleetHost, address: string, everyMs = 10) {
  const child = await start(from, [process.execPath, "-e", talkProgram, address, String(everyMs)]);
  let said = "";
  child.stdout?.on("data", (text) => {
    said += text;
  });
  return {
    async end(): Promise<Loss> {
      child.stdin?.end();
      await once(child, "close");
      return JSON.parse(said);
    },
  };
}

interface TransferOptions {
  /** After each 4 KiB, so that it does not fill the way. */
  readonly pauseMs?: number;
  readonly limitMs?: number;
}

/** By one TCP connection; fails when it does not end within the limit. */
export async function transfer(
  from: FleetHost,
  address: string,
  bytes: number,
  { pauseMs = 0, limitMs = 60_000 }: TransferOptions = {},
): Promise<{ readonly bytes: number; readonly ms: number }> {
  const { stdout, stderr } = await from.run(
    [process.execPath, "-e", sendProgram, address, String(bytes), String(pauseMs)],
    "",
    limitMs,
  );
  return JSON.parse(stdout || `{"error": ${JSON.stringify(stderr)}}`);
}

/** Datagrams that came to the hosts and found the buffer of their socket full, WireGuard's own among them. */
export async function overflows(hosts: readonly FleetHost[]): Promise<number> {
  const counts = await Promise.all(
    hosts.map(async (host) => {
      const { stdout } = await host.run(["cat", "/proc/net/snmp", "/proc/net/snmp6"]);
      const [names = [], values = []] = stdout
        .split("\n")
        .filter((line) => line.startsWith("Udp: "))
        .map((line) => line.split(" "));
      return (
        Number(values[names.indexOf("RcvbufErrors")]) +
        Number(/^Udp6RcvbufErrors\s+(\d+)/m.exec(stdout)?.[1] ?? 0)
      );
    }),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Whether a datagram of the size comes back. */
export async function answers(
  from: FleetHost,
  address: string,
  bytes = 64,
  limitMs = 5_000,
): Promise<boolean> {
  const command = [process.execPath, "-e", onceProgram, address, String(bytes), String(limitMs)];
  return (await from.run(command)).code === 0;
}

async function start(host: FleetHost, command: readonly string[]): Promise<ChildProcess> {
  const child = spawn(host.files.enterPath, command, { stdio: ["pipe", "pipe", "inherit"] });
  const limit = AbortSignal.timeout(readyLimitMs);
  if (child.stdout === null) throw new Error("no output");
  await once(child.stdout, "data", { signal: limit });
  return child;
}
