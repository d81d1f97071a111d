/**
 * `npm start`, after the set-up: builds what guests boot from, brings this host up as a node, and runs the demo
 * image as a machine until a page came from it. Then the platform stays up.
 *
 * With `--once` all of it happens in directories of its own, is checked, and is taken away again; a platform that
 * runs on this host is not touched. With `--json` the last line of stdout is one JSON document.
 */
import { spawn } from "node:child_process";
import { createReadStream, mkdirSync, openSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { HearthError } from "@hearth/errors";
import { type AgentOptions, type AgentStatus, down, readSettings, up } from "@hearth/host-agent";
import { HearthClient, type Machine } from "@hearth/sdk";
import { freePort, hostResources } from "@hearth/testkit";
import { Progress } from "./start-progress.ts";

const root = join(import.meta.dirname, "..");
const logPath = join(root, ".hearth/start.log");
const image = "demo:latest";
const app = "demo";
const machineName = "demo";
const pagePort = 8080;
/** By the front door, for whoever knows its name. */
const services = [
  {
    ...{ protocol: "tcp", internal_port: pagePort, autostart: true },
    ports: [
      { port: 80, handlers: ["http"] },
      { port: 443, handlers: ["tls", "http"] },
    ],
  },
];
const pageLimitMs = 30_000;
const nameLimitMs = 10_000;
const startLimitMs = 120_000;

const { values: options } = parseArgs({
  options: {
    once: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    "setup-ms": { type: "string" },
  },
});

const stopping = new AbortController();
const progress = new Progress();

/** What the script writes goes to a file: a person reads it only when it fails. */
async function runScript(name: string): Promise<void> {
  mkdirSync(join(root, ".hearth"), { recursive: true });
  const log = openSync(logPath, "w");
  const child = spawn("bash", [join(root, "scripts", name)], { stdio: ["ignore", log, log], cwd: root });
  const forward = (): void => void child.kill();
  stopping.signal.addEventListener("abort", forward, { once: true });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject).once("close", resolve);
  });
  stopping.signal.removeEventListener("abort", forward);
  stopping.signal.throwIfAborted();
  if (code === 0) return;
  const tail = readFileSync(logPath, "utf8").trimEnd().split("\n").slice(-20).join("\n");
  throw new HearthError("internal", {
    message: `scripts/${name} failed:\n${tail}\nAll of it is in ${logPath}.`,
  });
}

async function importDemo(client: HearthClient): Promise<void> {
  const archive = createReadStream(join(root, ".hearth/demo/demo.tar"));
  // Its messages are progress; a refusal is thrown.
  for await (const _ of client.images.import(image, archive, stopping.signal));
}

/** The machine of an earlier `npm start` is started again; what it was configured with stays. */
async function demoMachine(client: HearthClient): Promise<Machine> {
  await client.apps.ensure(app, stopping.signal);
  const earlier = (await client.machines.list(app)).find(({ name }) => name === machineName);
  const { id } =
    earlier ??
    (await client.machines.create(app, { name: machineName, config: { image, services } }, stopping.signal));
  const target = { app, id, signal: stopping.signal };
  if (earlier !== undefined && ["created", "stopped", "failed", "suspended"].includes(earlier.state))
    await client.machines.start(target);
  await client.machines.wait(target, { states: ["started"], timeoutMs: startLimitMs });
  return client.machines.get(target);
}

/** The machine is started when its program runs, which may need a moment before it listens. */
async function fetchPage(url: string): Promise<void> {
  const limit = AbortSignal.any([AbortSignal.timeout(pageLimitMs), stopping.signal]);
  for (;;) {
    try {
      const answer = await fetch(url, { signal: limit });
      const text = await answer.text();
      if (answer.ok && text.includes("Hearth")) return;
      throw new HearthError("unavailable", {
        message: `${url} answered ${answer.status}: ${text.slice(0, 200)}`,
      });
    } catch (error) {
      if (error instanceof HearthError) throw error;
      if (limit.aborted)
        throw new HearthError("deadline_exceeded", {
          message: `${url} gave no page within ${pageLimitMs / 1000} s.`,
        });
      await delay(20);
    }
  }
}

/**
 * The page's address by name, when the front door has it: another program may have its ports, and the machine of an
 * earlier version has no service.
 */
async function pageByName(where: AgentOptions): Promise<string | undefined> {
  const { domain, httpPort, httpsPort } = readSettings(where);
  const host = `${app}.${domain}`;
  const limit = AbortSignal.any([AbortSignal.timeout(nameLimitMs), stopping.signal]);
  const answer = await new Promise<string>((resolve, reject) => {
    // By address, as not every resolver knows names below `localhost`.
    const asked = { host: "127.0.0.1", port: httpPort, headers: { host }, signal: limit };
    get(asked, (response) => text(response).then(resolve, reject)).on("error", reject);
  }).catch(() => "");
  if (!answer.includes("Hearth")) return undefined;
  return `https://${host}${httpsPort === 443 ? "" : `:${httpsPort}`}/`;
}

async function bringUp(where: AgentOptions): Promise<{ client: HearthClient; status: AgentStatus }> {
  const { status } = await up({ ...where });
  const token = readFileSync(status.token_path, "utf8").trim();
  return { client: new HearthClient({ apiUrl: status.api_url, token }), status };
}

interface Running {
  readonly status: AgentStatus;
  readonly pageUrl: string;
  readonly namedUrl: string | undefined;
}

async function firstMachine(where: AgentOptions): Promise<Running> {
  if (options["setup-ms"] !== undefined) progress.done("setup", "host set up", Number(options["setup-ms"]));
  await progress.step("build", "guest agent, kernel and initrd", () => runScript("build.sh"));
  await progress.step("demo-image", "demo image", () => runScript("demo-image.sh"));
  const { client, status } = await progress.step("up", "platform up", () => bringUp(where));
  await progress.step("import", "image imported", () => importDemo(client));
  const machine = await progress.step("machine", "machine started", () => demoMachine(client));
  const pageUrl = `http://[${machine.private_ip}]:${pagePort}/`;
  await progress.step("page", "page fetched", () => fetchPage(pageUrl));
  const namedUrl = await progress.step("front-door", "front door asked", () => pageByName(where));
  if (options.once && namedUrl === undefined)
    throw new HearthError("unavailable", { message: `The front door does not serve ${app}.` });
  if (options.once)
    await progress.step("exec", "program run in the machine", () => checkExec(client, machine.id));
  return { status, pageUrl, namedUrl };
}

async function checkExec(client: HearthClient, id: string): Promise<void> {
  const result = await client.machines.run({ app, id }, ["sh", "-c", "echo hi; exit 7"]);
  if (result.stdout === "hi\n" && result.exit_code === 7) return;
  throw new HearthError("internal", { message: `The machine answered ${JSON.stringify(result)}.` });
}

async function once(): Promise<object> {
  const directory = await mkdtemp(join(tmpdir(), "hearth-"));
  // Settings of the host's own, which a platform that runs here may have.
  process.env.HEARTH_HTTP_PORT = String(await freePort());
  process.env.HEARTH_HTTPS_PORT = String(await freePort());
  const where = {
    dataDir: join(directory, "data"),
    runDir: join(directory, "run"),
    apiPort: await freePort(),
  };
  let running: Running | undefined;
  try {
    running = await firstMachine(where);
  } finally {
    // A failed run is taken away as well, and what it failed at is what is reported.
    const failedAt = progress.current;
    await progress.step("down", "platform down", () => down({ ...where, force: running === undefined }));
    progress.current = failedAt;
  }
  const { node_id } = running.status;
  await progress.step("leftovers", "nothing left behind", async () => {
    const left = hostResources(directory, node_id);
    if (left.length > 0) throw new HearthError("internal", { message: `Left behind: ${left.join("; ")}` });
  });
  await rm(directory, { recursive: true, force: true });
  return {};
}

async function stayUp(): Promise<object> {
  const { status, pageUrl, namedUrl } = await firstMachine({});
  const hearth = relative(process.cwd(), join(root, "cli/bin/hearth"));
  process.stderr.write(`
A machine serves   ${pageUrl}${namedUrl === undefined ? "" : `\nand by its name    ${namedUrl} (${hearth} ca trust)`}
The API            ${status.api_url}
Its token is in    ${status.token_path}

Try next:
  ${hearth} ps
  ${hearth} run --rm ${image} -- sh -c 'echo hi; exit 7'
  ${hearth} exec -it ${machineName} -- sh

${hearth} down stops everything; npm start brings it back.
`);
  return {
    page_url: pageUrl,
    named_url: namedUrl ?? null,
    api_url: status.api_url,
    token_path: status.token_path,
  };
}

for (const name of ["SIGINT", "SIGTERM"] as const)
  process.once(name, () => stopping.abort(new HearthError("cancelled", { message: `Stopped by ${name}.` })));

const begun = performance.now() - Number(options["setup-ms"] ?? 0);
let result: object;
try {
  const more = options.once ? await once() : await stayUp();
  result = { ok: true, ...more };
} catch (thrown) {
  const { code, message } = HearthError.from(thrown);
  process.stderr.write(`\nnpm start: ${message} (${code})\n`);
  result = { ok: false, step: progress.current, error: { code, message } };
  process.exitCode = 1;
}
const report = { ...result, total_ms: Math.round(performance.now() - begun), steps: progress.steps };
if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
