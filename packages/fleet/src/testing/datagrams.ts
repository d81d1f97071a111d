/** Datagrams from one host of a fleet to another: what arrives says what the underlay lets through, one way. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import type { Fleet } from "../fleet.ts";
import type { FleetHost } from "../fleet-host.ts";

const port = 9_000;
const limitMs = 20_000;

const listenProgram = `
const socket = require("node:dgram").createSocket("udp4");
socket.on("message", (message, { port, address }) => {
  process.stdout.write(".");
  if (process.argv[1] === "echo") socket.send(message, port, address);
});
socket.bind(${port}, () => process.stdout.write("ready"));
`;
const sendProgram = `
const socket = require("node:dgram").createSocket("udp4");
const [address, count] = process.argv.slice(1);
let left = Number(count);
const next = () => left-- > 0 ? socket.send("one", ${port}, address, () => setImmediate(next)) : socket.close();
next();
`;
const echoProgram = `
const socket = require("node:dgram").createSocket("udp4");
const { once } = require("node:events");
(async () => {
  const times = [];
  for (let i = 0; i < 10; i += 1) {
    const begun = performance.now();
    socket.send("one", ${port}, process.argv[1]);
    await once(socket, "message");
    times.push(performance.now() - begun);
  }
  console.log(Math.min(...times));
  process.exit(0);
})();
`;

/** How many of `count` datagrams arrived, when each has arrived or been dropped on the way. */
export async function datagramsThrough(fleet: Fleet, [from, to]: Pair, count = 20): Promise<number> {
  await using listener = await listen(to, "count");
  const droppedBefore = await fleet.dropped();
  const sent = await from.run([process.execPath, "-e", sendProgram, to.address, String(count)]);
  if (sent.code !== 0) throw new Error(sent.stderr);
  const endMs = Date.now() + limitMs;
  for (;;) {
    const dropped = (await fleet.dropped()) - droppedBefore;
    if (listener.count() + dropped >= count) return listener.count();
    if (Date.now() > endMs)
      throw new Error(`${listener.count()} arrived and ${dropped} were dropped of ${count}`);
    await delay(5);
  }
}

/** Milliseconds from a datagram to its echo, the least of ten. */
export async function roundTripMs([from, to]: Pair): Promise<number> {
  await using _listener = await listen(to, "echo");
  const { stdout } = await from.run([process.execPath, "-e", echoProgram, to.address], "", limitMs);
  return Number(stdout);
}

export type Pair = readonly [from: FleetHost, to: FleetHost];

async function listen(host: FleetHost, what: "count" | "echo") {
  const child = spawn(host.files.enterPath, [process.execPath, "-e", listenProgram, what], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    output += chunk;
  });
  const ended = once(child, "close");
  while (!output.startsWith("ready"))
    await once(child.stdout, "data", { signal: AbortSignal.timeout(limitMs) });
  return {
    count: () => output.length - "ready".length,
    async [Symbol.asyncDispose]() {
      for (const { pid, args } of host.processes())
        if (args.includes(listenProgram)) process.kill(pid, "SIGKILL");
      await ended;
    },
  };
}
