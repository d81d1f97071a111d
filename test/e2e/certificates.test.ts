/** Certificates of custom domains, from a real ACME server (pebble), by the real processes of one host and of two. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { connect as connectTls } from "node:tls";
import { Replica } from "@hearth/cluster";
import { until } from "@hearth/testkit";
import { type AcmeHost, type AcmeRegion, type Json, startAcmeRegion } from "./acme-region.ts";

const limitMs = 60_000;
const at = "/v1/apps/demo/certificates";

/** Waits until the API shows what is meant, and answers it. */
const shown = (host: AcmeHost, name: string, what: string, holds: (detail: Json) => boolean): Promise<Json> =>
  until(`${name}: ${what}\n${host.log("regional").slice(-2_000)}`, limitMs, async () => {
    const { json } = await host.api("GET", `${at}/${name}`);
    return holds(json) ? json : undefined;
  });
const isIssued = ({ certificates }: Json): boolean =>
  certificates?.some(({ source, status }: Json) => source === "fly" && status === "active");

const stateOf = async ({ bus }: AcmeRegion): Promise<ReadonlyMap<string, unknown>> => {
  const directory = await mkdtemp(join(tmpdir(), "hearth-acme-state-"));
  const replica = new Replica({ bus, path: join(directory, "replica.sqlite") });
  replica.start();
  try {
    await until("the state", limitMs, async () => (replica.isSettled ? true : undefined));
    return new Map(replica.list("").map(({ key, value }) => [key, value]));
  } finally {
    await replica.stop();
    await rm(directory, { recursive: true });
  }
};

async function servedCertificate(region: AcmeRegion, host: AcmeHost, name: string): Promise<X509Certificate> {
  const socket = connectTls({
    host: host.address,
    port: region.https,
    servername: name,
    rejectUnauthorized: false,
  });
  await once(socket, "secureConnect");
  const { raw } = socket.getPeerCertificate();
  socket.destroy();
  return new X509Certificate(raw);
}

/** A chain of an authority of the test's own. */
function uploadFor(directory: string, name: string) {
  const file = (end: string) => join(directory, `upload.${end}`);
  const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: "ignore" });
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  openssl(
    "req",
    "-x509",
    ...curve,
    "-subj",
    "/CN=test root",
    "-keyout",
    file("ca.key"),
    "-out",
    file("ca.pem"),
  );
  openssl(
    ...["req", "-x509", ...curve, "-subj", "/CN=leaf", "-addext", `subjectAltName=DNS:${name}`],
    ...["-addext", "basicConstraints=critical,CA:FALSE", "-CA", file("ca.pem"), "-CAkey", file("ca.key")],
    ...["-keyout", file("key"), "-out", file("pem")],
  );
  const read = (end: string) => readFileSync(file(end), "utf8");
  return { ca: file("ca.pem"), fullchain: read("pem") + read("ca.pem"), private_key: read("key") };
}

/** Takes connections, and passes them on when it is told to. */
async function startGate({
  address,
  port,
  to,
}: {
  readonly address: string;
  readonly port: number;
  readonly to: string;
}) {
  const asked = Promise.withResolvers<void>();
  const opened = Promise.withResolvers<void>();
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    asked.resolve();
    opened.promise.then(() => {
      const onward = connect(port, to);
      onward.on("error", () => socket.destroy());
      socket.pipe(onward).pipe(socket);
    });
  }).listen(port, address);
  await once(server, "listening");
  return {
    ...{ address, asked: asked.promise, open: () => opened.resolve() },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

async function rootPath({ pebble, directory }: AcmeRegion): Promise<string> {
  const path = join(directory, "root.pem");
  await writeFile(path, await pebble.root());
  return path;
}

for (const challenge of ["http-01", "tls-alpn-01"] as const)
  test(`${challenge}: a custom domain gets a certificate that curl trusts, from whichever host is asked`, async () => {
    await using region = await startAcmeRegion({ hosts: 2, acme: { challenge } });
    const [one, two] = region.hosts as [AcmeHost, AcmeHost];
    const name = "www.customer.test";
    // The authority comes to the host that does not deal with it.
    await region.pebble.setName(name, [two.address]);
    await two.kill("regional");
    const added = await one.api("POST", `${at}/acme`, { hostname: name });
    assert.deepEqual(
      [added.status, added.json.status, added.json.acme_requested],
      [201, "pending_validation", true],
    );
    const detail = await shown(one, name, "issued", isIssued);
    assert.equal(detail.status, "active");
    assert.match(detail.certificates[0].issuer, /Pebble Intermediate/);
    const root = await rootPath(region);
    for (const host of [one, two]) {
      const { out, code } = await region.curl(host, `https://${name}/`, "--cacert", root);
      assert.deepEqual({ out, code }, { out: "hello from a guest\n", code: 0 });
      assert.equal((await region.curl(host, `http://${name}/`)).out, "hello from a guest\n");
    }
    const proof =
      challenge === "http-01" ? /"reason":"acme_challenge"/ : /"event":"acme_proof".*"shown":true/;
    assert.match(two.log("ingress"), proof);
    const facts = JSON.stringify([...(await stateOf(region))]);
    assert.doesNotMatch(facts, /PRIVATE KEY/, "no private key is in the state as it is");
  });

test("what an authority refuses is shown in its own words, its attempts are counted, and another name goes on", async () => {
  await using region = await startAcmeRegion({ hosts: 1 });
  const [host] = region.hosts as [AcmeHost];
  const [good, bad, absent] = ["good.customer.test", "bad.customer.test", "absent.customer.test"];
  await region.pebble.setName(good, [host.address]);
  await region.pebble.setName(bad, ["127.0.0.99"]);
  for (const hostname of [bad, absent, good]) await host.api("POST", `${at}/acme`, { hostname });
  await shown(host, good, "issued", isIssued);
  const failed = await shown(host, bad, "failed", ({ validation_errors }) => validation_errors.length > 0);
  const [error] = failed.validation_errors;
  assert.equal(error.code, "connection");
  assert.match(error.message, /127\.0\.0\.99|connection refused/);
  assert.match(error.remediation, /80 and 443/);
  assert.equal(failed.status, "pending_validation");
  assert.equal(failed.attempts_last_hour, 1);
  assert.ok(Date.parse(failed.next_attempt_at) > Date.now() + 30_000, "not at once");
  // Asking again does not spend the authority's patience.
  const checked = await host.api("POST", `${at}/${bad}/check`);
  assert.deepEqual(checked.json.dns_records.a, ["127.0.0.99"]);
  assert.equal(checked.json.validation.dns_configured, false);
  assert.equal((await host.api("POST", `${at}/${good}/check`)).json.validation.dns_configured, true);
  assert.ok(Date.parse(checked.json.next_attempt_at) > Date.now() + 30_000);
  const said = await host.hearth("certs", "show", bad, "-a", "demo");
  assert.match(said, /bad\.customer\.test {2}pending_validation/);
  assert.ok(said.includes(error.message), "the authority's words");
  assert.match(said, /CNAME bad\.customer\.test demo\.apps\.example\.test/);
  assert.match(await host.hearth("certs", "list", "-a", "demo"), /good\.customer\.test +active +acme/);
  const json = JSON.parse(await host.hearth("certs", "check", good, "-a", "demo", "--json"));
  assert.equal(json.certificates[0].source, "fly");
  const root = await rootPath(region);
  const missing = await region.curl(host, `https://${bad}/`, "--cacert", root);
  assert.equal(missing.code, 35);
  assert.match(missing.out, /certificate unobtainable/);
  assert.equal((await region.curl(host, `http://${bad}/`)).out, "hello from a guest\n", "its HTTP is served");
  const unknown = await region.curl(host, "https://nobody.elsewhere.test/", "--cacert", root);
  assert.equal(unknown.code, 35);
  assert.match(unknown.out, /unrecognized name/);
});

test("an authority that wants an external account gets its key", async () => {
  const external = { "kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W" };
  await using region = await startAcmeRegion({ hosts: 1, external });
  const [host] = region.hosts as [AcmeHost];
  const name = "eab.customer.test";
  await region.pebble.setName(name, [host.address]);
  await host.api("POST", `${at}/acme`, { hostname: name });
  await shown(host, name, "issued", isIssued);
});

test("a certificate is renewed at two thirds of its life, and the new one is served", async () => {
  await using region = await startAcmeRegion({ hosts: 1, lifeSeconds: 24 });
  const [host] = region.hosts as [AcmeHost];
  const name = "short.customer.test";
  await region.pebble.setName(name, [host.address]);
  await host.api("POST", `${at}/acme`, { hostname: name });
  const first = await shown(host, name, "issued", isIssued);
  const { expires_at } = first.certificates[0];
  const second = await shown(
    host,
    name,
    "renewed",
    (detail) => detail.certificates[0].expires_at !== expires_at,
  );
  assert.ok(Date.parse(second.certificates[0].created_at) < Date.parse(expires_at), "before it ended");
  const served = await servedCertificate(region, host, name);
  assert.equal(Date.parse(served.validTo), Date.parse(second.certificates[0].expires_at));
});

test("the host that orders is killed in the middle: another one ends that same order", async () => {
  await using region = await startAcmeRegion({ hosts: 2 });
  const [one, two] = region.hosts as [AcmeHost, AcmeHost];
  const name = "killed.customer.test";
  // The authority comes to a place that answers when the test says so: the order is in the middle until then.
  await using gate = await startGate({ address: "127.0.0.77", port: region.http, to: two.address });
  await region.pebble.setName(name, [gate.address]);
  await two.kill("regional");
  await one.api("POST", `${at}/acme`, { hostname: name });
  await gate.asked;
  await one.kill("regional");
  const restarted = two.restart("regional");
  gate.open();
  await restarted;
  await shown(two, name, "issued", isIssued);
  assert.equal(region.pebble.log().match(/Added order/g)?.length, 1, "no second order");
  const fact = (await stateOf(region)).get(`acme.${name}`) as { readonly term: number };
  assert.equal(fact.term, 2);
  const { code } = await region.curl(two, `https://${name}/`, "--cacert", await rootPath(region));
  assert.equal(code, 0);
});

test("without an authority custom domains have the host's own; an uploaded one is shown by every host; a name is one app's", async () => {
  await using region = await startAcmeRegion({ hosts: 2, acme: false, apps: ["demo", "other"] });
  const [one, two] = region.hosts as [AcmeHost, AcmeHost];
  const name = "own.customer.test";
  const added = await one.api("POST", `${at}/acme`, { hostname: "OWN.customer.test." });
  assert.deepEqual([added.status, added.json.hostname, added.json.status], [201, name, "active"]);
  assert.equal(added.json.certificates[0].source, "local");
  const curl = (host: AcmeHost, ...more: string[]) => region.curl(host, `https://${name}/`, ...more);
  await until("the route", limitMs, async () => ((await curl(two, "-k")).code === 0 ? true : undefined));
  assert.equal((await curl(two, "--cacert", two.caPath)).out, "hello from a guest\n");
  const taken = await two.api("POST", "/v1/apps/other/certificates/acme", { hostname: name });
  assert.deepEqual([taken.status, taken.json.code], [422, "hostname_taken"]);
  assert.doesNotMatch(taken.json.message, /demo/);
  const { ca, fullchain, private_key } = uploadFor(region.directory, name);
  const refused = await one.api("POST", `${at}/custom`, {
    hostname: "else.customer.test",
    fullchain,
    private_key,
  });
  assert.deepEqual([refused.status, refused.json.code], [422, "certificate_invalid"]);
  assert.match(refused.json.message, /for own\.customer\.test and not for else\.customer\.test/);
  const upload = () => one.api("POST", `${at}/custom`, { hostname: name, fullchain, private_key });
  await until("the secret", limitMs, async () => ((await upload()).status === 201 ? true : undefined));
  for (const host of [one, two])
    await until(`the uploaded one at ${host.nodeId}`, limitMs, async () =>
      (await curl(host, "--cacert", ca)).code === 0 ? true : undefined,
    );
  const removed = await one.hearth("certs", "remove", name, "-a", "demo", "--only", "custom");
  assert.equal(removed, `${name}\n`);
  const files = [
    "--fullchain",
    join(region.directory, "upload.pem"),
    "--private-key",
    join(region.directory, "upload.key"),
  ];
  const imported = await one.hearth("certs", "import", name, "-a", "demo", ...files);
  assert.match(imported, /active: uploaded/);
  assert.equal((await one.api("DELETE", `${at}/${name}`)).status, 204);
  await until("the name's end", limitMs, async () =>
    (await curl(two, "-k")).code === 35 ? true : undefined,
  );
  assert.equal((await two.api("POST", "/v1/apps/other/certificates/acme", { hostname: name })).status, 201);
});
