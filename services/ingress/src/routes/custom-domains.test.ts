/** What the front door does with the facts of custom domains; with an authority: test/e2e/certificates.test.ts. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { connect as connectTls } from "node:tls";
import { factKeys, type HostnameFact, keyPurposes, type StoredCertificate } from "@hearth/machine";
import { sendRaw, startDoor } from "../testing/door.ts";
import { memoryReplica } from "../testing/facts.ts";
import { Challenges } from "../tls/challenges.ts";
import { domainCertificate } from "../tls/domain-certificates.ts";

const name = "www.customer.test";
const claim = (changes: Partial<HostnameFact> = {}): HostnameFact => ({
  ...{ hostname: name, app: "web", app_id: "id-1", org_slug: "org", created_at_ms: 0, updated_at_ms: 0 },
  ...{ acme_requested: true, ...changes },
});
const appFact = (id: string) => ({ id, name: "web", org_slug: "org", network: 1, created_at_ms: 0 });
const ask = (port: number, host: string, path = "/"): Promise<string> =>
  sendRaw(port, `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
/** What the handshake ends with: a certificate's name, or the error's code. */
const handshake = async (port: number, servername: string): Promise<string> => {
  const socket = connectTls({ port, host: "127.0.0.1", servername, rejectUnauthorized: false });
  const failed = new Promise<string>((resolve) =>
    socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message)),
  );
  const made = once(socket, "secureConnect").then(() => socket.getPeerCertificate().subjectaltname ?? "");
  const said = await Promise.race([failed, made.catch(() => failed)]);
  socket.destroy();
  return said;
};

test("a custom domain leads to its app as soon as it is the app's, and nowhere when it is not, or the app is another", async () => {
  await using door = await startDoor();
  await door.guest((_request, response) => response.end("hello"));
  assert.match(await ask(door.port, name), /^HTTP\/1\.1 404 /);
  door.set(factKeys.app("web"), appFact("id-1"));
  door.set(factKeys.hostname(name), claim());
  assert.match(await ask(door.port, "WWW.customer.test:80"), /hello/);
  assert.match(await handshake(door.https, name), /DNS:www\.customer\.test/);
  door.set(factKeys.hostname(name), undefined);
  assert.match(await ask(door.port, name), /^HTTP\/1\.1 404 /);
  door.set(factKeys.hostname(name), claim({ app_id: "id-0" }));
  assert.match(await ask(door.port, name), /^HTTP\/1\.1 404 /, "an app of the same name is another one");
});

test("who names nobody's name, and who names one without a certificate, gets an alert of its own", async () => {
  await using door = await startDoor();
  door.set(factKeys.app("web"), appFact("id-1"));
  door.set(factKeys.hostname(name), claim());
  door.set(factKeys.acme(name), { hostname: name, attempts_ms: [] });
  assert.equal(await handshake(door.https, name), "ERR_SSL_TLSV1_CERTIFICATE_UNOBTAINABLE");
  assert.equal(await handshake(door.https, "nobody.test"), "ERR_SSL_TLSV1_UNRECOGNIZED_NAME");
  assert.match(await handshake(door.https, "web.example.test"), /example\.test/);
});

test("the proof is answered at its path and for its name, before the app and before force_https, and to nobody else", async () => {
  await using door = await startDoor();
  const service = { ports: [{ port: 80, handlers: ["http"], force_https: true }] };
  await door.guest((_request, response) => response.end("the app"), { service });
  door.set(factKeys.app("web"), appFact("id-1"));
  door.set(factKeys.hostname(name), claim());
  const challenge = { type: "http-01", token: "token-1", key_authorization: "token-1.print" };
  door.set(factKeys.acme(name), { hostname: name, attempts_ms: [], order: { challenge } });
  const path = "/.well-known/acme-challenge/token-1";
  assert.match(await ask(door.port, name, path), /^HTTP\/1\.1 200 [\s\S]*\r\n\r\ntoken-1\.print$/);
  assert.match(await ask(door.port, name, `${path}x`), /^HTTP\/1\.1 301 /, "another path is the app's");
  assert.match(
    await ask(door.port, "web.example.test", path),
    /^HTTP\/1\.1 301 /,
    "another name is another's",
  );
  door.set(factKeys.acme(name), { hostname: name, attempts_ms: [] });
  assert.match(await ask(door.port, name, path), /^HTTP\/1\.1 301 /, "it is over");
});

test("whoever asks whether a challenge is shown is answered when it is, and at the end of its time", async () => {
  const memory = memoryReplica();
  const challenges = new Challenges(memory.replica, () => undefined);
  const asked = challenges.shows({ hostname: name, token: "t" }, 20_000);
  memory.set(factKeys.acme(name), { order: { challenge: { type: "http-01", token: "t" } } });
  assert.equal(await asked, true);
  assert.equal(await challenges.shows({ hostname: name, token: "other" }, 1), false);
  assert.throws(() => Challenges.readQuestion({ hostname: 1 }), { code: "invalid_argument" });
});

test("an uploaded certificate is shown while it is good, then the issued one, and an expired one when there is no other", () => {
  const stored = (chain: string, not_after_ms: number) =>
    ({ chain, sealed_key: chain, not_after_ms }) as StoredCertificate;
  const memory = memoryReplica();
  const chosen = (custom: StoredCertificate | undefined, issued: StoredCertificate | undefined) => {
    memory.set(factKeys.acme(name), issued === undefined ? undefined : { certificate: issued });
    const openKey = (purpose: string, sealed: string) =>
      purpose === (sealed.startsWith("custom") ? keyPurposes.custom(name) : keyPurposes.order(name))
        ? "key"
        : undefined;
    const deps = { replica: memory.replica, openKey, nowMs: () => 100 };
    const found = domainCertificate(claim(custom === undefined ? {} : { custom }), deps);
    return found.kind === "own" ? found.pair.cert : found.kind;
  };
  assert.equal(chosen(stored("custom", 200), stored("issued", 300)), "custom");
  assert.equal(chosen(stored("custom", 50), stored("issued", 300)), "issued");
  assert.equal(chosen(stored("custom", 50), stored("issued", 60)), "issued", "the one that ended last");
  assert.equal(chosen(stored("custom", 50), undefined), "custom", "the client says that it is over");
  assert.equal(chosen(undefined, undefined), "local");
});

test("an expired certificate is shown, so that the client says what is wrong", async () => {
  const made = execFileSync(
    "openssl",
    [
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x"],
      ...["-addext", `subjectAltName=DNS:${name}`, "-keyout", "-"],
    ],
    { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] },
  );
  const [key = "", chain = ""] = made.split(/(?=-----BEGIN CERTIFICATE)/);
  await using door = await startDoor({ openKey: () => key });
  door.set(factKeys.app("web"), appFact("id-1"));
  const custom = { chain, sealed_key: "", not_after_ms: 1 } as StoredCertificate;
  door.set(factKeys.hostname(name), claim({ custom }));
  assert.match(await handshake(door.https, name), /DNS:www\.customer\.test/);
});
