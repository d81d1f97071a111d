/** Images in registries for tests, and a gate before a registry that asks for credentials or breaks answers. */
import { once } from "node:events";
import {
  createServer as createHttpServer,
  type IncomingMessage,
  request,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { makeTar, run, type Scratch } from "./fixtures.ts";

/** An OCI layout `oci` with one image `t`; of two small layers unless told otherwise. */
export async function makeLayout(space: Scratch, layers: readonly Buffer[] = []): Promise<string> {
  const layout = join(space.path, "oci");
  await run("umoci", ["init", "--layout", layout]);
  await run("umoci", ["new", "--image", `${layout}:t`]);
  const defaults = [
    await makeTar([
      { name: "a", content: "a" },
      { name: "b", content: "b" },
    ]),
    await makeTar([
      { name: ".wh.a", content: "" },
      { name: "c", content: "c" },
    ]),
  ];
  for (const [index, tar] of (layers.length > 0 ? layers : defaults).entries()) {
    await run("umoci", [
      "raw",
      "add-layer",
      "--image",
      `${layout}:t`,
      await space.write(`${index}.tar`, tar),
    ]);
  }
  const settings = [
    "--config.entrypoint",
    "/c",
    "--config.env",
    "A=1",
    "--config.user",
    "7:8",
    "--config.workingdir",
    "/w",
  ];
  await run("umoci", ["config", "--image", `${layout}:t`, ...settings, "--config.label", "k=v"]);
  return layout;
}

/** Puts the layout's image into a registry. */
export async function push(layout: string, name: string): Promise<void> {
  await run("skopeo", [
    "copy",
    "--insecure-policy",
    "--dest-tls-verify=false",
    `oci:${layout}:t`,
    `docker://${name}`,
  ]);
}

export interface Gate extends AsyncDisposable {
  readonly host: string;
  /** Method, path and range of all requests that came. */
  readonly seen: string[];
}

export interface GateOptions {
  readonly upstream: string;
  /** Answers instead of the upstream, and says so by returning true. */
  readonly intercept?: (incoming: IncomingMessage, outgoing: ServerResponse, host: string) => boolean;
  /** Sees each chunk of a blob with its place in the answer; undefined breaks the connection. */
  readonly blobChunk?: (chunk: Buffer, place: number) => Buffer | undefined;
}

/** A reverse proxy before a real registry. */
export async function startGate(options: GateOptions): Promise<Gate> {
  const seen: string[] = [];
  const server = createHttpServer((incoming, outgoing) => {
    seen.push(`${incoming.method} ${incoming.url} ${incoming.headers.range ?? ""}`.trim());
    if (options.intercept?.(incoming, outgoing, host) === true) return;
    const [hostname, port] = options.upstream.split(":");
    const headers = { ...incoming.headers, authorization: "", host: options.upstream };
    const onward = request(
      { hostname, port, path: incoming.url, method: incoming.method, headers },
      (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
        let place = 0;
        answer.on("data", (chunk: Buffer) => {
          const isBlob = incoming.url?.includes("/blobs/") === true;
          const passed = isBlob && options.blobChunk !== undefined ? options.blobChunk(chunk, place) : chunk;
          place += chunk.length;
          if (passed === undefined) outgoing.destroy();
          else outgoing.write(passed);
        });
        answer.on("end", () => outgoing.end());
      },
    );
    onward.on("error", () => outgoing.destroy());
    incoming.pipe(onward);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  };
  return { host, seen, [Symbol.asyncDispose]: close };
}
