/**
 * The Machines API of one process, for tests of clients: machines are child processes, their files a directory,
 * images names. It keeps to the shapes of the API and to its errors; it is no place to test the API itself.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HearthError } from "@hearth/errors";
import type { Difference, EgressPolicyInput } from "@hearth/machine";
import type { FakeMachine } from "./fake-machine.ts";
import type { FakeMesh } from "./fake-mesh.ts";
import { type FakeNode, newFakeNode } from "./fake-nodes.ts";
import { routeFake } from "./fake-routes.ts";
import { serveFakeSessions } from "./fake-sessions.ts";

export interface FakeCall {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly body: unknown;
}

export interface FakeState {
  readonly apps: Map<string, Map<string, FakeMachine>>;
  /** Of apps that say something. */
  readonly egress: Map<string, EgressPolicyInput>;
  readonly images: Map<string, { readonly sizeBytes: number }>;
  readonly calls: FakeCall[];
  /** What clients sent on sessions: start requests and controls. */
  readonly sessions: object[];
  readonly directory: string;
  /** What a comparison of the node with its host finds. */
  readonly differences: Difference[];
  readonly mesh: FakeMesh;
  readonly nodes: Map<string, FakeNode>;
}

export interface FakeApi extends FakeState, AsyncDisposable {
  readonly apiUrl: string;
  readonly token: string;
  /** Breaks the connections of all sessions; programs of machines go on. */
  dropSessions(): void;
}

export async function startFakeApi(): Promise<FakeApi> {
  const token = "test-token";
  const directory = await mkdtemp(join(tmpdir(), "hearth-fake-"));
  const state: FakeState = {
    ...{ apps: new Map(), egress: new Map(), images: new Map(), calls: [], sessions: [], directory },
    differences: [],
    mesh: { epoch: 1, left: 0, looks: 3 },
    nodes: new Map([["n1", newFakeNode()]]),
  };
  state.images.set("demo:latest", { sizeBytes: 4096 });
  const authorised = (given: string | undefined): boolean => given === `Bearer ${token}`;
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    try {
      if (!authorised(request.headers.authorization) && request.url !== "/v1/health")
        throw new HearthError("unauthenticated");
      await routeFake(state, request, response);
    } catch (thrown) {
      sendError(response, HearthError.from(thrown));
    }
  };
  const server = createServer((request, response) => void answer(request, response));
  const sessions = serveFakeSessions({
    server,
    find: (path, authorization) => (authorised(authorization) ? findMachine(state, path) : undefined),
    refuse: (_path, authorization) => {
      const error = new HearthError(authorised(authorization) ? "machine_not_found" : "unauthenticated");
      return { status: error.status, body: errorBody(error) };
    },
    onStart: (path, start) => state.sessions.push({ path, ...start }),
    onControl: (control) => state.sessions.push(control),
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    ...state,
    token,
    apiUrl: `http://127.0.0.1:${port}`,
    dropSessions: () => sessions[Symbol.dispose](),
    async [Symbol.asyncDispose]() {
      for (const machines of state.apps.values()) for (const machine of machines.values()) machine.destroy();
      sessions[Symbol.dispose]();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function findMachine(state: FakeState, path: string): FakeMachine | undefined {
  const [, , , app = "", , id = ""] = path.split("/");
  return state.apps.get(app)?.get(id);
}

const errorBody = (error: HearthError): object => ({
  error: error.message,
  message: error.message,
  code: error.code,
  status: "unknown",
  details: error.details ?? {},
});

function sendError(response: ServerResponse, error: HearthError): void {
  if (response.headersSent) {
    response.end(`${JSON.stringify({ kind: "error", error: error.toWire() })}\n`);
    return;
  }
  response.writeHead(error.status, { "content-type": "application/json" });
  response.end(JSON.stringify(errorBody(error)));
}
