/** A real ACME server for tests: Debian's pebble, and a DNS server (pebble-challtestsrv) that the test fills. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { freePort } from "./free-port.ts";
import { until } from "./until.ts";

export interface PebbleOptions {
  /** Where the server looks for proofs, at whatever address a name has. */
  readonly httpPort: number;
  readonly tlsPort: number;
  /** Seconds that its certificates live; five years when absent. */
  readonly lifeSeconds?: number;
  /** Key ids with keys in base64url; then an account needs one. */
  readonly external?: Readonly<Record<string, string>>;
}

export interface Pebble extends AsyncDisposable {
  readonly directory: string;
  /** PEM of who signs for the directory itself. */
  readonly caPath: string;
  /** `address#port` of the DNS server. */
  readonly resolver: string;
  /** PEM of the root under which it issues. */
  root(): Promise<string>;
  /** Gives the name these addresses; none takes it away. */
  setName(name: string, addresses: readonly string[]): Promise<void>;
  /** What it has logged. */
  log(): string;
}

const startLimitMs = 20_000;

export async function startPebble(directory: string, options: PebbleOptions): Promise<Pebble> {
  mkdirSync(directory, { recursive: true });
  const [port, management, dns, control] = await Promise.all([
    freePort(),
    freePort(),
    freePort(),
    freePort(),
  ]);
  const certificate = ownCertificate(directory);
  const config = {
    pebble: {
      listenAddress: `127.0.0.1:${port}`,
      managementListenAddress: `127.0.0.1:${management}`,
      ...certificate,
      httpPort: options.httpPort,
      tlsPort: options.tlsPort,
      ocspResponderURL: "",
      externalAccountBindingRequired: options.external !== undefined,
      externalAccountMACKeys: options.external ?? {},
      certificateValidityPeriod: options.lifeSeconds ?? 157_766_400,
    },
  };
  const configPath = join(directory, "pebble.json");
  writeFileSync(configPath, JSON.stringify(config));
  const lines: string[] = [];
  const start = (program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess => {
    const child = spawn(program, args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...env },
    });
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (chunk: Buffer) => lines.push(chunk.toString()));
    return child;
  };
  const children = [
    start("pebble-challtestsrv", [
      ...["-dns01", `127.0.0.1:${dns}`, "-management", `127.0.0.1:${control}`],
      ...["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv4", "", "-defaultIPv6", ""],
    ]),
    // It refuses one nonce in twenty, as it always does.
    start("pebble", ["-config", configPath, "-dnsserver", `127.0.0.1:${dns}`], {
      PEBBLE_VA_NOSLEEP: "1",
      PEBBLE_AUTHZREUSE: "0",
    }),
  ];
  const stop = async (): Promise<void> => {
    for (const child of children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await exited;
    }
  };
  const ca = readFileSync(certificate.certificate, "utf8");
  const get = async (url: string): Promise<string | undefined> => {
    const asking = request(url, { ca, agent: false }).end();
    const answered = await once(asking, "response").catch(() => undefined);
    return answered === undefined ? undefined : text(answered[0]);
  };
  const tell = (path: string, body: object) =>
    fetch(`http://127.0.0.1:${control}${path}`, { method: "POST", body: JSON.stringify(body) })
      .then((answer) => (answer.ok ? true : undefined))
      .catch(() => undefined);
  const url = `https://127.0.0.1:${port}/dir`;
  try {
    await until("pebble", startLimitMs, () => get(url));
    await until("its DNS server", startLimitMs, () => tell("/clear-a", { host: "nobody.test" }));
  } catch (error) {
    await stop();
    throw new Error(lines.join(""), { cause: error });
  }
  return {
    directory: url,
    caPath: certificate.certificate,
    resolver: `127.0.0.1#${dns}`,
    log: () => lines.join(""),
    root: async () => (await get(`https://127.0.0.1:${management}/roots/0`)) ?? "",
    async setName(host, addresses) {
      await tell("/clear-a", { host });
      if (addresses.length > 0) await tell("/add-a", { host, addresses });
    },
    [Symbol.asyncDispose]: stop,
  };
}

function ownCertificate(directory: string) {
  const certificate = join(directory, "directory.pem");
  const privateKey = join(directory, "directory.key");
  execFileSync(
    "openssl",
    [
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"],
      ...["-subj", "/CN=directory", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"],
      ...["-keyout", privateKey, "-out", certificate],
    ],
    { stdio: "ignore" },
  );
  return { certificate, privateKey };
}
