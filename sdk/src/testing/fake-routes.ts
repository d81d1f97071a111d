/** The routes of the fake API: a table of method and path, matched in order. */

import { mkdtemp } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import { HearthError } from "@hearth/errors";
import type { LogEntry, MachineConfigInput } from "@hearth/machine";
import type { FakeState } from "./fake-api.ts";
import { fakeEgress, setFakeEgress } from "./fake-egress.ts";
import { fakeExplanation } from "./fake-explain.ts";
import { routeFiles } from "./fake-files.ts";
import { fakeCordon, fakeLease, gate } from "./fake-lease.ts";
import { FakeMachine } from "./fake-machine.ts";
import { lookAtFakeMesh, rotateFakeMesh } from "./fake-mesh.ts";
import { changeFakeNode, listFakeNodes, lookAtFakeNode, removeFakeNode } from "./fake-nodes.ts";
import { createFakeToken, currentFakeToken, listFakeTokens, revokeFakeToken } from "./fake-tokens.ts";

interface Exchange {
  readonly state: FakeState;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly query: URLSearchParams;
  /** Parts of the path that the pattern holds in parentheses. */
  readonly parts: readonly string[];
  readonly json: () => Promise<Record<string, unknown>>;
}
type Handler = (exchange: Exchange) => Promise<unknown> | unknown;

const streamed = Symbol("the handler wrote the answer");
const egressPath = "/v1/apps/([^/]+)/egress";
const machinesPath = "/v1/apps/([^/]+)/machines";
const machinePath = `${machinesPath}/([0-9a-f]{14})`;

const routes: readonly (readonly [method: string, pattern: string, handler: Handler])[] = [
  ["GET", "/v1/health", () => ({ status: "ok" })],
  ["GET", "/v1/mesh", ({ state }) => lookAtFakeMesh(state.mesh)],
  ["POST", "/v1/mesh/rotate", ({ state }) => rotateFakeMesh(state.mesh)],
  ["GET", "/v1/nodes", ({ state }) => listFakeNodes(state)],
  ["GET", "/v1/nodes/([^/]+)", ({ state, parts: [id = ""] }) => lookAtFakeNode(state, id)],
  [
    "DELETE",
    "/v1/nodes/([^/]+)",
    ({ state, query, parts: [id = ""] }) => removeFakeNode(state, id, query.get("force") === "true"),
  ],
  [
    "POST",
    "/v1/nodes/([^/]+)/(cordon|uncordon|drain|undrain)",
    ({ state, parts: [id = "", verb = ""] }) => changeFakeNode(state, id, verb),
  ],
  [
    "GET",
    "/v1/nodes/([^/]+)/inspection",
    ({ state: { differences } }) => ({ node_id: "n1", machines: 0, differences }),
  ],
  [
    "GET",
    "/v1/apps",
    ({ state }) => ({ total_apps: state.apps.size, apps: [...state.apps.keys()].map(app) }),
  ],
  ["POST", "/v1/apps", createApp],
  ["GET", "/v1/apps/([^/]+)", ({ state, parts: [name = ""] }) => appMachines(state, name) && app(name)],
  ["DELETE", "/v1/apps/([^/]+)", ({ state, parts: [name = ""] }) => void state.apps.delete(name)],
  ["GET", egressPath, ({ state, parts: [name = ""] }) => fakeEgress(state, name)],
  [
    "PUT",
    egressPath,
    async ({ state, parts: [name = ""], json }) => setFakeEgress(state, name, await json()),
  ],
  ["DELETE", egressPath, ({ state, parts: [name = ""] }) => setFakeEgress(state, name, {})],
  ["GET", "/v1/orgs/([^/]+)/machines", listAllMachines],
  ["GET", machinesPath, listMachines],
  ["POST", machinesPath, createMachine],
  ["GET", machinePath, (exchange) => machineOf(exchange).record()],
  ["POST", machinePath, updateMachine],
  ["DELETE", machinePath, destroyMachine],
  ["GET", `${machinePath}/wait`, waitMachine],
  ["GET", `${machinePath}/logs`, followLogs],
  ["GET", `${machinePath}/events`, (exchange) => machineOf(exchange).record().events],
  ["GET", `${machinePath}/ps`, () => [{ pid: 1, command: "init", directory: "/", cpu: 0, rss: 1 }]],
  ["GET", `${machinePath}/explain`, (exchange) => fakeExplanation(machineOf(exchange).record())],
  ["GET", `${machinePath}/lease`, (exchange) => fakeLease(machineOf(exchange), exchange)],
  ["POST", `${machinePath}/lease`, (exchange) => fakeLease(machineOf(exchange), exchange)],
  ["DELETE", `${machinePath}/lease`, (exchange) => fakeLease(machineOf(exchange), exchange)],
  ["POST", `${machinePath}/(cordon|uncordon)`, (exchange) => fakeCordon(machineOf(exchange), exchange)],
  ["POST", `${machinePath}/start`, startMachine],
  ["POST", `${machinePath}/stop`, stopMachine],
  ["POST", `${machinePath}/restart`, restartMachine],
  ["POST", `${machinePath}/signal`, signalMachine],
  ["GET", `${machinePath}/metadata`, (exchange) => machineOf(exchange).metadata],
  ["POST", `${machinePath}/metadata/([^/]+)`, setMetadata],
  [
    "GET",
    "/v1/images",
    ({ state }) => [...state.images].map(([reference, { sizeBytes }]) => image(reference, sizeBytes)),
  ],
  ["GET", "/v1/tokens/current", currentFakeToken],
  ["PUT", "/v1/tokens/admin", () => ({ node_id: "n1" })],
  ["POST", "/v1/tokens", async ({ state, json }) => createFakeToken(state, await json())],
  ["GET", "/v1/tokens", ({ state, query }) => listFakeTokens(state, query.get("cursor"))],
  ["DELETE", "/v1/tokens/([^/]+)", ({ state, parts: [id = ""] }) => revokeFakeToken(state, id)],
  ["POST", "/v1/images/pull", pullImage],
  ["POST", "/v1/images/import", importImage],
  ["DELETE", "/v1/images", removeImage],
];

export async function routeFake(
  state: FakeState,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = new URL(request.url ?? "/", "http://fake");
  const method = request.method ?? "GET";
  let read: Promise<Record<string, unknown>> | undefined;
  const json = (): Promise<Record<string, unknown>> => (read ??= readJson(request));
  const files = new RegExp(`^${machinePath}/files(/[a-z]+)?$`).exec(url.pathname);
  const isUpload = request.headers["content-type"] === "application/octet-stream";
  state.calls.push({
    method,
    path: url.pathname,
    query: url.searchParams,
    body: isUpload ? "" : await json(),
  });
  if (files !== null) {
    const machine = machineOf({ state, parts: files.slice(1) });
    const name = `${method} ${files[3] ?? "/"}`;
    await routeFiles({ root: machine.directory, name, query: url.searchParams, request, response, json });
    return;
  }
  for (const [wanted, pattern, handler] of routes) {
    const match = wanted === method ? new RegExp(`^${pattern}$`).exec(url.pathname) : null;
    if (match === null) continue;
    const parts = match.slice(1).map(decodeURIComponent);
    gate(method, url.pathname, request, () => machineOf({ state, parts }));
    const body = await handler({ state, request, response, query: url.searchParams, parts, json });
    if (body === streamed) return;
    response.writeHead(200, { "content-type": "application/json" });
    response.end(body === undefined ? "" : JSON.stringify(body));
    return;
  }
  throw new HearthError("not_found");
}

async function readJson(request: IncomingMessage): Promise<Record<string, unknown>> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString();
  return text === "" ? {} : (JSON.parse(text) as Record<string, unknown>);
}

const app = (name: string): object => ({
  id: name,
  name,
  status: "deployed",
  network: "1",
  machine_count: 0,
});

const image = (reference: string, sizeBytes: number): object => ({
  reference,
  imageId: "0".repeat(64),
  digest: `sha256:${"0".repeat(64)}`,
  rootfsPath: "/images/0",
  sizeBytes,
  config: { entrypoint: [], cmd: [], env: [], user: "", workdir: "", stopSignal: "", labels: {} },
});

function appMachines(state: FakeState, name: string): Map<string, FakeMachine> {
  const machines = state.apps.get(name);
  if (machines === undefined) throw new HearthError("app_not_found");
  return machines;
}

function machineOf({ state, parts: [name = "", id = ""] }: Pick<Exchange, "state" | "parts">): FakeMachine {
  const machine = appMachines(state, name).get(id);
  if (machine === undefined) throw new HearthError("machine_not_found");
  return machine;
}

async function createApp({ state, json }: Exchange): Promise<object> {
  const name = String((await json()).app_name);
  if (state.apps.has(name)) throw new HearthError("name_taken");
  state.apps.set(name, new Map());
  return app(name);
}

function listMachines({ state, parts: [name = ""], query }: Exchange): object[] {
  return [...appMachines(state, name).values()]
    .filter((machine) => machine.state !== "destroyed" || query.has("include_deleted"))
    .map((machine) => machine.record());
}

function listAllMachines({ state, query }: Exchange): object {
  const machines = [...state.apps].flatMap(([app_name, ofApp]) =>
    [...ofApp.values()]
      .filter((machine) => machine.state !== "destroyed" || query.has("include_deleted"))
      .map((machine) => ({ app_id: app_name, app_name, ...machine.record() })),
  );
  return { machines, next_cursor: "" };
}

async function createMachine({ state, parts: [appName = ""], json }: Exchange): Promise<object> {
  const machines = appMachines(state, appName);
  const body = await json();
  const config = body.config as MachineConfigInput;
  const directory = await mkdtemp(join(state.directory, "machine-"));
  const name = String(body.name ?? `fake-${machines.size}`);
  if ([...machines.values()].some((one) => one.state !== "destroyed" && one.record().name === name))
    throw new HearthError("name_taken");
  const machine = new FakeMachine({ name, config, directory });
  machines.set(machine.id, machine);
  if (body.skip_launch !== true) setImmediate(() => machine.start());
  return machine.record();
}

async function updateMachine(exchange: Exchange): Promise<object> {
  const machine = machineOf(exchange);
  const body = await exchange.json();
  if (![undefined, machine.record().instance_id].includes(body.current_version as never))
    throw new HearthError("conflict");
  machine.update(body.config as MachineConfigInput, body.skip_launch !== true);
  return machine.record();
}

function destroyMachine(exchange: Exchange): object {
  const machine = machineOf(exchange);
  const force = exchange.query.has("force") || exchange.query.has("kill");
  if (machine.state === "started" && !force) throw illegalFrom(machine.state);
  machine.destroy();
  return { ok: true };
}

function startMachine(exchange: Exchange): object {
  const machine = machineOf(exchange);
  const previous_state = machine.state;
  if (previous_state === "started") throw illegalFrom(previous_state);
  machine.start();
  return { previous_state };
}

function restartMachine(exchange: Exchange): object {
  const machine = machineOf(exchange);
  if (machine.state !== "started") throw illegalFrom(machine.state);
  machine.restart();
  return { ok: true };
}

const illegalFrom = (state: string): HearthError =>
  new HearthError("illegal_transition", {
    message: `The machine is ${state}; wait or look at its state.`,
    details: { state },
  });

async function stopMachine(exchange: Exchange): Promise<object> {
  const machine = machineOf(exchange);
  if (machine.state === "stopped") throw illegalFrom(machine.state);
  machine.stop(((await exchange.json()).signal as NodeJS.Signals | undefined) ?? "SIGINT");
  return { ok: true };
}

async function signalMachine(exchange: Exchange): Promise<object> {
  machineOf(exchange).kill((await exchange.json()).signal as NodeJS.Signals);
  return { ok: true };
}

async function setMetadata(exchange: Exchange): Promise<void> {
  machineOf(exchange).metadata[exchange.parts[2] ?? ""] = String((await exchange.json()).value);
}

async function waitMachine(exchange: Exchange): Promise<object> {
  const machine = machineOf(exchange);
  const states = exchange.query.getAll("state");
  const settled = ["created", "started", "stopped", "suspended", "failed", "destroyed"];
  const version = exchange.query.get("instance_id");
  const reached = (): boolean => {
    if (version !== null && machine.failedVersion === version) throw new HearthError("update_rolled_back");
    return (version ?? machine.record().instance_id) <= machine.record().instance_id && isIn();
  };
  const isIn = (): boolean =>
    states.includes(machine.state) || (states.includes("settled") && settled.includes(machine.state));
  const end = Date.now() + Number(exchange.query.get("timeout") ?? 60) * 1000;
  while (!reached()) {
    if (Date.now() >= end || exchange.response.destroyed) throw new HearthError("deadline_exceeded");
    await nextChange(machine, end - Date.now());
  }
  return { ok: true, state: machine.state };
}

function nextChange(machine: FakeMachine, limitMs: number): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      machine.off("change", done);
      resolve();
    };
    const timer = setTimeout(done, limitMs);
    machine.on("change", done);
  });
}

async function followLogs(exchange: Exchange): Promise<typeof streamed> {
  const machine = machineOf(exchange);
  const { query, response } = exchange;
  const tail = query.get("tail");
  let next = tail === null ? 0 : Math.max(0, machine.logs.length - Number(tail));
  response.writeHead(200, { "content-type": "application/x-ndjson" });
  response.flushHeaders();
  const over = (): boolean => ["stopped", "failed", "destroyed"].includes(machine.state);
  for (;;) {
    const isOver = over();
    for (; next < machine.logs.length; next += 1) await writeLine(response, machine.logs[next]);
    if (isOver || !query.has("follow") || response.destroyed) break;
    if (next === machine.logs.length && !over()) await nextChange(machine, 1000);
  }
  response.end();
  return streamed;
}

async function writeLine(response: ServerResponse, value: LogEntry | object | undefined): Promise<void> {
  if (response.destroyed || response.write(`${JSON.stringify(value)}\n`)) return;
  await new Promise<void>((resolve) => {
    response.once("drain", resolve);
    response.once("close", resolve);
  });
}

async function pullImage({ state, json, response }: Exchange): Promise<typeof streamed> {
  const reference = String((await json()).reference);
  if (reference === "refused:latest") throw new HearthError("image_unauthorized");
  const present = state.images.get(reference);
  response.writeHead(200, { "content-type": "application/x-ndjson" });
  if (present !== undefined) {
    await writeLine(response, { kind: "done", image: image(reference, present.sizeBytes) });
    response.end();
    return streamed;
  }
  await writeLine(response, { kind: "downloading", doneBytes: 512, totalBytes: 1024 });
  if (reference.startsWith("missing")) throw new HearthError("image_not_found");
  await writeLine(response, { kind: "merging" });
  state.images.set(reference, { sizeBytes: 1024 });
  await writeLine(response, { kind: "done", image: image(reference, 1024) });
  response.end();
  return streamed;
}

async function importImage({ state, request, query, response }: Exchange): Promise<typeof streamed> {
  let sizeBytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) sizeBytes += chunk.length;
  const reference = query.get("reference") ?? "";
  state.images.set(reference, { sizeBytes });
  response.writeHead(200, { "content-type": "application/x-ndjson" });
  await writeLine(response, { kind: "done", image: image(reference, sizeBytes) });
  response.end();
  return streamed;
}

function removeImage({ state, query }: Exchange): object {
  if (!state.images.delete(query.get("reference") ?? "")) throw new HearthError("image_not_found");
  return { ok: true };
}
