/** The front door of one host, and the machines of another: served, woken once, lost and back; and their names. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import {
  demoImage,
  type FleetHost,
  type Json,
  type RunningFleet,
  repositoryRoot,
  startFleet,
  until,
} from "@hearth/testkit";

const root = process.getuid?.() === 0 ? false : "a fleet needs root";
const services = [
  { protocol: "tcp", internal_port: 8080, autostart: true, ports: [{ port: 80, handlers: ["http"] }] },
];

let fleet: RunningFleet;
/** Has the API, and a guest that asks for names; `two` has the app. */
let one: FleetHost;
let two: FleetHost;
let served: Json;
let asker: Json;

const call = async (method: string, path: string, body?: unknown): Promise<Json> => {
  const answer = await fleet.region.call(one, method, path, { body, limitMs: 90_000 });
  assert.ok(answer.status < 300, `${method} ${path}: ${JSON.stringify(answer.body)}`);
  return answer.body;
};

async function create(app: string, host: FleetHost, config: object): Promise<Json> {
  const other = fleet.region.nodeId(host === one ? two : one);
  await call("POST", `/v1/nodes/${other}/cordon`);
  const made = await call("POST", `/v1/apps/${app}/machines`, { config: { image: demoImage, ...config } });
  await call("POST", `/v1/nodes/${other}/uncordon`);
  await call("GET", `/v1/apps/${app}/machines/${made.id}/wait?state=started&timeout=60`);
  return made;
}

interface Page {
  readonly status: number;
  readonly reason: string | undefined;
  readonly retry: string | undefined;
  readonly body: string;
}

/** What the door of a host answers to somebody on that host. */
async function ask(door: FleetHost): Promise<Page> {
  const url = ["-H", "Host: web.hearth.localhost", "http://127.0.0.1/"];
  const { code, stdout, stderr } = await door.run(["curl", "-sS", "-i", "-m", "90", ...url]);
  assert.equal(code, 0, stderr);
  const header = (name: string) => new RegExp(`^${name}: (.*?)\\r?$`, "im").exec(stdout)?.[1];
  return {
    status: Number(/^HTTP\/1\.1 (\d+)/.exec(stdout)?.[1]),
    reason: header("hearth-reason"),
    retry: header("retry-after"),
    body: stdout,
  };
}

const until200 = (limitMs: number) =>
  until("the page", limitMs, async () => {
    const page = await ask(one);
    return page.status === 200 ? page : undefined;
  });

const namesOfApp = async (): Promise<string> => {
  const path = `/v1/apps/asker/machines/${asker.id}/exec`;
  const command = ["nslookup", "-type=aaaa", "web.internal"];
  return (await call("POST", path, { command, timeout: 30 })).stdout;
};

const starts = async (): Promise<number> => {
  const { runs } = await call("GET", `/v1/apps/web/machines/${served.id}/explain`);
  return runs.filter(({ kind }: Json) => kind === "machine-start").length;
};

describe("the front door and machines of another host", { skip: root, timeout: 900_000 }, () => {
  before(async () => {
    fleet = await startFleet({ hosts: 2, apis: 1, buses: 1 });
    [one, two] = [fleet.host(1), fleet.host(2)];
    execFileSync("bash", ["scripts/demo-image.sh"], { cwd: repositoryRoot, stdio: "ignore" });
    await fleet.region.importImage(join(repositoryRoot, ".hearth/demo/demo.tar"), demoImage);
    for (const app_name of ["web", "asker"])
      await call("POST", "/v1/apps", { app_name, org_slug: "personal", network: "blue" });
    served = await create("web", two, { services });
    asker = await create("asker", one, {});
  });
  after(async () => await fleet?.[Symbol.asyncDispose]());

  test("the door of a host that has no machine of the app serves it, as its own host's does", async () => {
    const { body } = await until200(60_000);
    assert.match(body, /busybox httpd/);
    assert.equal((await ask(two)).status, 200);
  });

  test("a request to either door wakes it, and both at once start it once", async () => {
    const before_ = await starts();
    await call("POST", `/v1/apps/web/machines/${served.id}/stop`, {});
    await call("GET", `/v1/apps/web/machines/${served.id}/wait?state=stopped&timeout=60`);
    const pages = await Promise.all([ask(one), ask(one), ask(two), ask(two)]);
    assert.deepEqual(
      pages.map(({ status }) => status),
      [200, 200, 200, 200],
      pages.map(({ body }) => body).join(),
    );
    assert.equal(await starts(), before_ + 1);
  });

  test("when its host is lost the door says so, and its names go; both are back with the host", async () => {
    assert.match(await namesOfApp(), new RegExp(served.private_ip));
    await two.lose();
    const first = await ask(one);
    assert.deepEqual([first.status, first.reason, first.retry], [503, "unreachable", "5"], first.body);
    await until("its names have gone", 120_000, async () =>
      (await namesOfApp()).includes(served.private_ip) ? undefined : true,
    );
    const later = await ask(one);
    assert.deepEqual([later.status, later.reason], [503, "unreachable"], later.body);
    await fleet.region.start(two);
    await until200(180_000);
    await until("its names are back", 60_000, async () =>
      (await namesOfApp()).includes(served.private_ip) ? true : undefined,
    );
  });
});
