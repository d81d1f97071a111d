/**
 * Proxies from Debian as they are set up to do what the front door does: one core's worth of each, connections to the
 * upstream kept, who the client is told to it, a line of log for each request, TLS with the same certificate.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "@hearth/testkit";

export interface Ports {
  readonly http: number;
  readonly https: number;
  readonly tcp: number;
}

export interface Peer extends Ports {
  readonly pids: () => number[];
}

export interface PeerWorld {
  readonly dir: string;
  readonly upstream: { readonly address: string; readonly port: number };
  /** PEM: the chain, the key, and the two in one file. */
  readonly certPath: string;
  readonly keyPath: string;
  readonly bothPath: string;
  readonly host: string;
  readonly children: ChildProcess[];
}

export const listenHost = "127.0.0.1";

export async function freePorts(): Promise<Ports> {
  return { http: await freePort(), https: await freePort(), tcp: await freePort() };
}

function begin(
  world: PeerWorld,
  name: string,
  command: readonly string[],
  env: NodeJS.ProcessEnv = {},
): () => number[] {
  const output = openSync(join(world.dir, `${name}.log`), "a");
  const [program = "", ...args] = command;
  const child = spawn(program, args, { stdio: ["ignore", output, output], env: { ...process.env, ...env } });
  closeSync(output);
  world.children.push(child);
  return () => (child.pid === undefined ? [] : [child.pid]);
}

export async function startNginx(world: PeerWorld): Promise<Peer> {
  const { dir, upstream, certPath, keyPath } = world;
  const ports = await freePorts();
  const target = `[${upstream.address}]:${upstream.port}`;
  const config = `user root;
daemon off;
master_process off;
pid ${dir}/nginx.pid;
worker_rlimit_nofile 20000;
events { worker_connections 19000; }
http {
  access_log ${dir}/nginx-access.log combined buffer=32k flush=1s;
  keepalive_requests 1000000000;
  keepalive_timeout 75s;
  ${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path ${dir}/nginx-${kind};`).join("\n  ")}
  upstream guest { server ${target}; keepalive 512; keepalive_requests 1000000000; }
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header Host $host;
  proxy_set_header X-Forwarded-For $remote_addr;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Request-Id $request_id;
  ssl_certificate ${certPath};
  ssl_certificate_key ${keyPath};
  ssl_protocols TLSv1.2 TLSv1.3;
  server {
    listen ${listenHost}:${ports.http} backlog=4096;
    listen ${listenHost}:${ports.https} ssl backlog=4096;
    location / { proxy_pass http://guest; }
  }
}
`;
  await writeFile(join(dir, "nginx.conf"), config);
  const path = join(dir, "nginx.conf");
  return { ...ports, pids: begin(world, "nginx", ["nginx", "-e", join(dir, "nginx-error.log"), "-c", path]) };
}

export async function startHaproxy(world: PeerWorld): Promise<Peer> {
  const { dir, upstream, bothPath } = world;
  const ports = await freePorts();
  const target = `[${upstream.address}]:${upstream.port}`;
  const config = `global
  nbthread 1
  maxconn 9900
  log stdout format raw local0
defaults
  log global
  timeout connect 3s
  timeout client 120s
  timeout server 120s
frontend web
  mode http
  option httplog
  bind ${listenHost}:${ports.http}
  bind ${listenHost}:${ports.https} ssl crt ${bothPath} alpn h2,http/1.1
  option forwardfor
  http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
  unique-id-format %[uuid()]
  unique-id-header X-Request-Id
  default_backend guest
backend guest
  mode http
  http-reuse always
  server one ${target}
listen bytes
  mode tcp
  option tcplog
  bind ${listenHost}:${ports.tcp}
  server one ${target}
`;
  await writeFile(join(dir, "haproxy.cfg"), config);
  return { ...ports, pids: begin(world, "haproxy", ["haproxy", "-db", "-f", join(dir, "haproxy.cfg")]) };
}

export async function startCaddy(world: PeerWorld): Promise<Peer> {
  const { dir, upstream, certPath, keyPath, host } = world;
  const ports = await freePorts();
  const target = `[${upstream.address}]:${upstream.port}`;
  const site = `  log
  reverse_proxy ${target}
  bind ${listenHost}`;
  const config = `{
  admin off
  auto_https off
  default_sni ${host}
  http_port ${ports.http}
  https_port ${ports.https}
}
http://:${ports.http} {
${site}
}
https://${host}:${ports.https} {
${site}
  tls ${certPath} ${keyPath}
}
`;
  await writeFile(join(dir, "Caddyfile"), config);
  const home = { HOME: dir, XDG_DATA_HOME: dir, XDG_CONFIG_HOME: dir, GOMAXPROCS: "1" };
  const args = ["caddy", "run", "--config", join(dir, "Caddyfile"), "--adapter", "caddyfile"];
  return { ...ports, pids: begin(world, "caddy", args, home) };
}
