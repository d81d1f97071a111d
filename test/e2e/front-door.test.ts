import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { demoImage, importDemo, startPlatform, until } from "@hearth/testkit";

const run = promisify(execFile);
const skip = process.getuid?.() === 0 ? false : "needs root";
const domain = "hearth.localhost";

test("an app is served by its name with TLS that can be trusted, and a request wakes a machine that was stopped", {
  skip,
  timeout: 600_000,
}, async () => {
  const platform = await startPlatform();
  try {
    await importDemo(platform);
    const app = await platform.call("POST", "/v1/apps", { app_name: "demo", org_slug: "personal" });
    assert.equal(app.status, 201, JSON.stringify(app.body));
    const ports = [
      { port: 80, handlers: ["http"], force_https: true },
      { port: 443, handlers: ["tls", "http"] },
    ];
    const services = [{ protocol: "tcp", internal_port: 8080, autostart: true, ports }];
    const made = await platform.call("POST", "/v1/apps/demo/machines", {
      config: { image: demoImage, services },
    });
    assert.equal(made.status, 200, JSON.stringify(made.body));
    const machine = `/v1/apps/demo/machines/${made.body.id}`;
    const started = await platform.call("GET", `${machine}/wait?state=started&timeout=60`);
    assert.equal(started.status, 200, JSON.stringify(started.body));
    const shown = await platform.hearth(["ca", "show"]);
    assert.equal(shown.stdout, readFileSync(join(platform.dataDir, "ingress/ca.pem"), "utf8"));
    const trust = await platform.hearth(["ca", "trust", "--json"]);
    const { certificate } = JSON.parse(trust.stdout) as { certificate: string };
    const curl = async (host: string, ...more: string[]): Promise<string> => {
      const resolve = `${host}:${platform.httpsPort}:127.0.0.1`;
      const args = ["-sS", "--cacert", certificate, "--resolve", resolve, "-m", "90", ...more];
      return (await run("curl", [...args, `https://${host}:${platform.httpsPort}/`])).stdout;
    };
    const served = await until("the app's page", 60_000, async () => {
      const got = await curl(`demo.${domain}`, "-w", "\n%{http_code} %{http_version}").catch(String);
      return got.endsWith("200 2") ? got : undefined;
    });
    assert.match(served, /busybox httpd[\s\S]*\n200 2$/);
    assert.match(await curl(`8080-${made.body.id}.${domain}`, "-w", "%{http_code}"), /200$/);
    const plain = await run("curl", [
      ...["-s", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", "-H", `Host: demo.${domain}`],
      `http://127.0.0.1:${platform.httpPort}/a`,
    ]);
    assert.equal(plain.stdout, `301 https://demo.${domain}:${platform.httpsPort}/a`);
    const [pid] = platform.pids("services/ingress");
    const rssKib = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
    console.log(`ingress: ${Math.round(rssKib / 1024)} MiB resident after a few requests`);
    assert.equal((await platform.call("POST", `${machine}/stop`, {})).status, 200);
    const stopped = await platform.call("GET", `${machine}/wait?state=stopped&timeout=60`);
    assert.equal(stopped.status, 200, JSON.stringify(stopped.body));
    assert.match(await curl(`demo.${domain}`, "-w", "%{http_code}"), /200$/, "woken by the request");
  } finally {
    await platform.down();
  }
  assert.deepEqual(platform.hostResources(), []);
});
