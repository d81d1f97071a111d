/**
 * What the front door promises, tried from outside with the system's own programs: an app is served by its name over
 * TLS that can be trusted; a machine that was stopped is woken by a request; ssh, scp and sftp get in; and a rolling
 * update of an app under load drops no request. Hearth comes up for it, with machines that are real, and goes again.
 */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { demoImage, importDemo, type Json, type Platform, startPlatform, until } from "@hearth/testkit";
import { StrictClients } from "./strict-clients.ts";
import { trySystemSsh } from "./system-ssh.ts";
import { WrkLoad, type WrkReport } from "./wrk-load.ts";

export interface FrontDoorOptions {
  readonly onProgress?: (line: string) => void;
  /** Without it only clients of the drill's own are a load. */
  readonly withWrk?: boolean;
}

export interface FrontDoorReport {
  readonly ok: boolean;
  readonly curl: boolean;
  /** From the request to the answer of the machine that it woke. */
  readonly woke_ms: number;
  readonly ssh: boolean;
  readonly scp: boolean;
  readonly sftp: boolean;
  /** Requests that were not answered well while the update went on, by the strict clients and by wrk. */
  readonly dropped: number;
  readonly requests: number;
  readonly posts: number;
  readonly slowest_ms: number;
  readonly update_ms: number;
  readonly updated: number;
  readonly wrk: WrkReport | null;
  readonly found: readonly string[];
}

const run = promisify(execFile);
const app = "demo";
const domain = "hearth.localhost";
const host = `${app}.${domain}`;
const appPath = `/v1/apps/${app}/machines`;
const readyLimitMs = 180_000;
/** Requests that go well before the update, and after it. */
const aroundUpdate = 40;

/** A page that says which version runs, and a script that takes a second and may not be asked twice. */
const program = `
echo "page $VERSION" >/www/index.html
mkdir -p /www/cgi-bin
cat >/www/cgi-bin/slow <<END
#!/bin/sh
sleep 1
printf 'Content-Type: text/plain\\r\\n\\r\\nslow $VERSION\\n'
END
chmod 755 /www/cgi-bin/slow
exec httpd -f -p 8080 -h /www`;

const configOf = (version: string) => ({
  image: demoImage,
  guest: { cpu_kind: "shared", cpus: 1, memory_mb: 128 },
  env: { VERSION: version },
  init: { exec: ["/bin/sh", "-c", program] },
  stop_config: { signal: "SIGTERM", timeout: "20s" },
  services: [
    {
      protocol: "tcp",
      internal_port: 8080,
      autostart: true,
      ports: [
        { port: 80, handlers: ["http"] },
        { port: 443, handlers: ["tls", "http"] },
      ],
      checks: [{ type: "http", path: "/", interval: "1s", timeout: "5s", grace_period: "60s" }],
    },
  ],
});

export async function runFrontDoor(options: FrontDoorOptions = {}): Promise<FrontDoorReport> {
  const { onProgress = () => undefined } = options;
  onProgress("hearth up");
  const platform = await startPlatform();
  const directory = mkdtempSync(join(tmpdir(), "hearth-front-door-"));
  let report: FrontDoorReport | undefined;
  const left: string[] = [];
  try {
    await importDemo(platform);
    report = await frontDoorOf(platform, directory, options);
  } finally {
    onProgress("hearth down");
    rmSync(directory, { recursive: true, force: true });
    await platform.down().catch((error: unknown) => void left.push(String(error)));
    left.push(...platform.hostResources());
  }
  const found = [...report.found, ...left.map((what) => `left behind: ${what}`)];
  return { ...report, found, ok: report.ok && left.length === 0 };
}

async function frontDoorOf(
  platform: Platform,
  directory: string,
  { onProgress = () => undefined, withWrk = true }: FrontDoorOptions,
): Promise<FrontDoorReport> {
  const found: string[] = [];
  const made = await platform.call("POST", "/v1/apps", { app_name: app, org_slug: "personal" });
  if (made.status !== 201) throw new Error(`the app: ${JSON.stringify(made.body)}`);
  onProgress("a machine with a service, asked by curl");
  const first = await createMachine(platform, "one");
  const curl = await curlOf(platform);
  const page = await curl("/");
  const curled = page === "page 1\n";
  if (!curled) found.push(`curl: ${JSON.stringify(page)}`);

  onProgress("ssh, scp, sftp");
  const ssh = await trySystemSsh(platform, { machine: "one", directory, found });

  onProgress("stopped, and asked again");
  await callWell(platform, "POST", `${appPath}/${first}/stop`, {});
  await callWell(platform, "GET", `${appPath}/${first}/wait?state=stopped&timeout=60`);
  const askedMs = performance.now();
  const woken = await curl("/");
  const woke_ms = woken === "page 1\n" ? Math.round(performance.now() - askedMs) : -1;
  if (woke_ms < 0) found.push(`a request did not wake the machine: ${JSON.stringify(woken)}`);

  onProgress("a second machine, and an update of both under load");
  const second = await createMachine(platform, "two");
  for (const id of [first, second]) await untilPassing(platform, id);
  const update = await updateUnderLoad(platform, { directory, withWrk, onProgress });
  found.push(...update.found);
  const { ok: updatedWell, found: _told, ...facts } = update;
  const isGood = curled && woke_ms >= 0 && ssh.ssh && ssh.scp && ssh.sftp && updatedWell;
  return { ok: isGood && facts.dropped === 0, curl: curled, woke_ms, ...ssh, ...facts, found };
}

interface UpdateOptions {
  readonly directory: string;
  readonly withWrk: boolean;
  readonly onProgress: (line: string) => void;
}

async function updateUnderLoad(platform: Platform, { directory, withWrk, onProgress }: UpdateOptions) {
  const found: string[] = [];
  const { httpPort: port } = platform;
  const strict = new StrictClients(50);
  strict.add({ port, host, path: "/", method: "GET", right: /^page [12]\n$/ }, 3);
  strict.add({ port, host, path: "/cgi-bin/slow", method: "POST", right: /^slow [12]\n$/ }, 3);
  const url = `http://127.0.0.1:${port}/`;
  const wrk = withWrk ? new WrkLoad({ url, host, connections: 4, pauseMs: 50, directory }) : undefined;
  let update_ms = 0;
  let told: Json;
  try {
    await strict.more(aroundUpdate, readyLimitMs);
    onProgress(`${strict.count.sent} requests; hearth update --app ${app}`);
    const beganMs = performance.now();
    const updated = await platform.hearth(["update", "--app", app, "-e", "VERSION=2", "--json"]);
    update_ms = Math.round(performance.now() - beganMs);
    if (updated.code !== 0) found.push(`hearth update: ${updated.stderr.trim()} ${updated.stdout.trim()}`);
    else told = JSON.parse(updated.stdout);
    await strict.more(aroundUpdate, readyLimitMs);
  } catch (error) {
    found.push((error as Error).message);
  }
  const report = await wrk?.stop();
  const { sent, answered, dropped, droppedCount, slowestMs } = await strict.stop();
  found.push(...dropped);
  const after = await fetchPage(platform);
  if (after !== "page 2\n") found.push(`after the update: ${JSON.stringify(after)}`);
  const lost = report === undefined ? 0 : report.non_2xx + report.socket_errors;
  if (lost > 0) found.push(`wrk: ${JSON.stringify(report)}`);
  const machines = (told?.machines ?? []) as { readonly outcome: string }[];
  const updated = machines.filter(({ outcome }) => outcome === "updated").length;
  return {
    ok: told?.ok === true && updated === 2 && found.length === 0,
    dropped: droppedCount + lost,
    requests: sent + (report?.requests ?? 0),
    posts: (answered.get("slow 1") ?? 0) + (answered.get("slow 2") ?? 0),
    ...{ slowest_ms: slowestMs, update_ms, updated, wrk: report ?? null, found },
  };
}

async function createMachine(platform: Platform, name: string): Promise<string> {
  const { id } = await callWell(platform, "POST", appPath, { name, config: configOf("1") });
  await callWell(platform, "GET", `${appPath}/${id}/wait?state=started&timeout=60`);
  await untilPassing(platform, id);
  return id;
}

const untilPassing = async (platform: Platform, id: string): Promise<true> =>
  await until(`the checks of ${id}`, readyLimitMs, async () => {
    const { checks, state } = await callWell(platform, "GET", `${appPath}/${id}`);
    const isReady = state === "started" && checks.every(({ status }: Json) => status === "passing");
    return isReady ? true : undefined;
  });

async function callWell(platform: Platform, method: string, path: string, body?: unknown): Promise<Json> {
  const answer = await platform.call(method, path, body);
  if (answer.status === 200) return answer.body;
  throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
}

/** By the name of the app, over TLS that the authority of the platform vouches for; what it says, right or wrong. */
async function curlOf(platform: Platform): Promise<(path: string) => Promise<string>> {
  const trust = await platform.hearth(["ca", "trust", "--json"]);
  const { certificate } = JSON.parse(trust.stdout) as { certificate: string };
  const { httpsPort } = platform;
  const resolve = `${host}:${httpsPort}:127.0.0.1`;
  return async (path) => {
    const args = ["-sS", "--cacert", certificate, "--resolve", resolve, "-m", "120"];
    return await run("curl", [...args, `https://${host}:${httpsPort}${path}`]).then(
      ({ stdout }) => stdout,
      (error: Error) => error.message,
    );
  };
}

const fetchPage = async ({ httpPort }: Platform): Promise<string> =>
  (await run("curl", ["-sS", "-m", "120", "-H", `Host: ${host}`, `http://127.0.0.1:${httpPort}/`])).stdout;
