/** Who is let in, with the real OpenSSH client against an API that knows one token. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import {
  authorityOf,
  newAuthoritySecret,
  parsePublicKeyLine,
  publicKeyLine,
  type SshAuthority,
  sealToken,
  signCertificate,
} from "@hearth/ssh-keys";
import { createLogger } from "@hearth/telemetry";
import type { SshLimits } from "./limits.ts";
import { SshGateway } from "./ssh-gateway.ts";

const hourMs = 3_600_000;

interface Door extends AsyncDisposable {
  readonly port: number;
  readonly authority: SshAuthority;
  readonly logs: Record<string, unknown>[];
  readonly directory: string;
  /** A key and a certificate for it, under a name. */
  key(name: string, certificate: Partial<CertificateOf>): void;
  ssh(name: string): Promise<{ readonly code: number; readonly stderr: string }>;
}

interface CertificateOf {
  readonly authority: SshAuthority;
  readonly token: string;
  readonly validFromMs: number;
  readonly validUntilMs: number;
  /** Whose key the token is sealed for; the certificate's own when absent. */
  readonly sealedFor: Buffer;
}

async function openDoor(limits: Partial<SshLimits> = {}): Promise<Door> {
  const authority = authorityOf(newAuthoritySecret());
  const logs: Record<string, unknown>[] = [];
  const api = createServer((request, response) => {
    const isGood = request.headers.authorization === "Bearer good";
    const error = { error: { code: "unauthenticated", message: "It was revoked." } };
    const apps = request.url === "/v1/apps" ? { apps: [] } : undefined;
    const current = { tokens: [{ token_id: "t1", kind: "token", label: "a", verbs: ["read", "exec"] }] };
    response.writeHead(isGood ? 200 : 401, { "content-type": "application/json" });
    response.end(JSON.stringify(isGood ? (apps ?? current) : error));
  });
  api.listen(0, "127.0.0.1");
  await once(api, "listening");
  const gateway = new SshGateway({
    ...{ authority, limits, nowMs: Date.now },
    apiUrl: `http://127.0.0.1:${(api.address() as AddressInfo).port}`,
    logger: createLogger("ssh", {}, { destination: { write: (line) => logs.push(JSON.parse(line)) } }),
  });
  const port = await gateway.start({ host: "127.0.0.1", port: 0 });
  const directory = mkdtempSync(join(tmpdir(), "hearth-door-"));
  const knownHosts = join(directory, "known_hosts");
  writeFileSync(knownHosts, `[127.0.0.1]:${port} ${publicKeyLine(authority.hostPublicKey)}\n`);
  const at = (name: string): string => join(directory, name);
  return {
    ...{ port, authority, logs, directory },
    key(name, wish) {
      execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", at(name)]);
      const publicKey = parsePublicKeyLine(readFileSync(at(`${name}.pub`), "utf8"));
      const by = wish.authority ?? authority;
      const line = signCertificate(by, {
        ...{ publicKey, keyId: name },
        validFromMs: wish.validFromMs ?? Date.now(),
        validUntilMs: wish.validUntilMs ?? Date.now() + hourMs,
        sealedToken: sealToken(authority, wish.sealedFor ?? publicKey, wish.token ?? "good"),
      });
      writeFileSync(at(`${name}-cert.pub`), `${line}\n`);
    },
    async ssh(name) {
      const options = [
        ...["IdentitiesOnly=yes", "IdentityAgent=none", "BatchMode=yes", "StrictHostKeyChecking=yes"],
        `UserKnownHostsFile=${knownHosts}`,
      ].flatMap((option) => ["-o", option]);
      const child = spawn("ssh", [
        "-F",
        "none",
        "-i",
        at(name),
        ...options,
        "-p",
        `${port}`,
        "web@127.0.0.1",
        "true",
      ]);
      let stderr = "";
      child.stderr.on("data", (data: Buffer) => {
        stderr += data.toString();
      });
      const [code] = (await once(child, "close")) as [number];
      return { code, stderr };
    },
    async [Symbol.asyncDispose]() {
      await gateway.stop();
      api.closeAllConnections();
      api.close();
      rmSync(directory, { recursive: true });
    },
  };
}

const denied = /Permission denied \(publickey\)/;
/** Of a machine that is not there: who gets so far was let in. */
const letIn = /There is no machine "web"/;

test("a good certificate is let in, and OpenSSH reads it", async () => {
  await using door = await openDoor();
  door.key("good", {});
  assert.match((await door.ssh("good")).stderr, letIn);
  const shown = execFileSync("ssh-keygen", ["-L", "-f", join(door.directory, "good-cert.pub")]).toString();
  assert.match(shown, /user certificate/);
  assert.ok(!shown.includes(Buffer.from("good").toString("hex")), "the token can be read");
});

test("a certificate that is over, or not of this region, or whose token is refused, is told why", async () => {
  await using door = await openDoor();
  door.key("old", { validFromMs: Date.now() - 2 * hourMs, validUntilMs: Date.now() - hourMs });
  door.key("early", { validFromMs: Date.now() + hourMs, validUntilMs: Date.now() + 2 * hourMs });
  door.key("foreign", { authority: authorityOf(newAuthoritySecret()) });
  door.key("revoked", { token: "bad" });
  const words = {
    old: /expired/,
    early: /not valid yet/,
    foreign: /not of this region/,
    revoked: /token of the certificate is refused/,
  };
  for (const [name, why] of Object.entries(words)) {
    const { code, stderr } = await door.ssh(name);
    assert.equal(code, 255, name);
    assert.match(stderr, why, name);
    assert.match(stderr, denied, name);
  }
  const reasons = door.logs.filter(({ kind }) => kind === "refused").map(({ reason }) => reason);
  assert.deepEqual(reasons, ["expired", "not_yet_valid", "other_authority", "unauthenticated"]);
});

test("a certificate is of no use with another key, and a token with no other certificate", async () => {
  await using door = await openDoor();
  door.key("good", {});
  door.key("thief", {});
  const owner = parsePublicKeyLine(readFileSync(join(door.directory, "good.pub"), "utf8"));
  door.key("moved", { sealedFor: owner });
  assert.match((await door.ssh("moved")).stderr, denied);
  // The certificate of another beside one's own key; the client itself would leave it away.
  const { login } = await import("./login.ts");
  const [, blob = ""] = readFileSync(join(door.directory, "good-cert.pub"), "utf8").split(" ");
  const data = Buffer.from(blob, "base64");
  const outcome = await login(
    { authority: door.authority, apiUrl: "http://127.0.0.1:1", nowMs: Date.now },
    { data, blob: Buffer.from("signed"), signature: Buffer.alloc(83) },
  );
  assert.deepEqual(outcome, { kind: "refused", reason: "bad_signature" });
});

test("a changed byte anywhere in a certificate has it refused", async () => {
  await using door = await openDoor();
  door.key("good", {});
  const { parseCertificate } = await import("@hearth/ssh-keys");
  const [, base64 = ""] = readFileSync(join(door.directory, "good-cert.pub"), "utf8").split(" ");
  const blob = Buffer.from(base64, "base64");
  const when = { authority: door.authority, nowMs: Date.now(), toleranceMs: 0 };
  assert.equal(typeof parseCertificate(blob, when), "object");
  for (let at = 0; at < blob.length; at += 1) {
    const changed = Buffer.from(blob);
    changed[at] = (changed[at] ?? 0) ^ 1;
    assert.equal(typeof parseCertificate(changed, when), "string", `byte ${at}`);
    assert.equal(parseCertificate(blob.subarray(0, at), when), "malformed");
  }
});

test("connections of one source, and the time until a login, have a limit", { timeout: 20_000 }, async () => {
  await using door = await openDoor({ connectionsPerSource: 2, loginWithinMs: 300 });
  const began = performance.now();
  const open = [1, 2, 3].map(() => connect(door.port, "127.0.0.1"));
  const closed = open.map((socket) =>
    once(
      socket.resume().on("error", () => undefined),
      "close",
    ),
  );
  await Promise.race(closed);
  assert.ok(performance.now() - began < 290, "the third was not closed at once");
  open[0]?.write("SSH-2.0-slow\r\n");
  await Promise.all(closed);
  assert.ok(performance.now() - began >= 290);
});

test("a client that does not take leave is cut off, and its place is another's", {
  timeout: 20_000,
}, async () => {
  await using door = await openDoor({ connections: 1, loginWithinMs: 500, leaveWithinMs: 50 });
  door.key("good", {});
  const stays = connect({ port: door.port, host: "127.0.0.1", allowHalfOpen: true });
  stays.resume().on("error", () => undefined);
  stays.write("SSH-2.0-stays\r\n");
  await once(stays, "end");
  const endMs = performance.now() + 10_000;
  while (!letIn.test((await door.ssh("good")).stderr))
    assert.ok(performance.now() < endMs, "it holds the only place");
  stays.destroy();
});

test("noise of strangers ends their connections and nothing else", { timeout: 60_000 }, async () => {
  await using door = await openDoor({ loginWithinMs: 500 });
  const heads = [
    "",
    "SSH-2.0-x\r\n",
    "SSH-1.5-x\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "SSH-2.0-x\r\n\0\0\0\x14\x06\x14",
  ];
  for (let round = 0; round < 8; round += 1)
    await Promise.all(
      heads.map(async (head) => {
        const socket = connect(door.port, "127.0.0.1");
        socket.resume().on("error", () => undefined);
        const closed = once(socket, "close");
        socket.write(Buffer.concat([Buffer.from(head), randomBytes(2 ** round * 64)]));
        await closed;
      }),
    );
  door.key("good", {});
  assert.match((await door.ssh("good")).stderr, letIn);
});
