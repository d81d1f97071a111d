/**
 * The HTTP side of the API without its routes: parsers, limits, auth, errors, request ids. Every listener has
 * limits on headers, on the time a body may take and on its size; what streams has its own.
 */
import { HearthError } from "@hearth/errors";
import type { Logger } from "@hearth/telemetry";
import {
  type FastifyInstance,
  type FastifyReply,
  type FastifyServerOptions,
  type FastifyTypeProvider,
  fastify,
  LogController,
} from "fastify";
import type Type from "typebox";
import { wantsWebSocket } from "../sessions/session-sockets.ts";
import type { AccessGate } from "./access-gate.ts";
import { checkRequest } from "./validation.ts";
import { wireError } from "./wire-error.ts";

export const requestIdHeader = "fly-request-id";
export const bodyLimitBytes = 1024 * 1024;
const bodyDeadlineMs = 30_000;

declare module "fastify" {
  interface FastifyContextConfig {
    /** Answered without a token. */
    readonly open?: boolean;
    /** The body streams to its handler, which has its own limits. */
    readonly upload?: boolean;
    /** The answer streams, as lines of JSON or as bytes. */
    readonly answers?: "lines" | "bytes";
    /** Asked every few seconds by whoever watches; only worth a line when somebody debugs. */
    readonly polled?: boolean;
  }
}

interface TypeBoxProvider extends FastifyTypeProvider {
  readonly validator: this["schema"] extends Type.TSchema ? Type.Static<this["schema"]> : unknown;
}

// biome-ignore format: one line reads best
export type App = FastifyInstance<import("node:http").Server, import("node:http").IncomingMessage, import("node:http").ServerResponse, import("fastify").FastifyBaseLogger, TypeBoxProvider>;

export interface HttpServerDeps {
  readonly gate: Pick<AccessGate, "admit">;
  readonly logger: Logger;
  readonly newRequestId: () => string;
}

/** Given here so that the framework loads neither its own validator nor its own serializer, which are large. */
const compilersFactory = {
  buildValidator: () => (route: { schema: unknown; httpPart?: string }) => (data: unknown) =>
    checkRequest(route.schema as Type.TSchema, route.httpPart, data),
  buildSerializer: () => () => (data: unknown) => JSON.stringify(data),
} as unknown as NonNullable<NonNullable<FastifyServerOptions["schemaController"]>["compilersFactory"]>;

export function createHttpServer(deps: HttpServerDeps): App {
  const app = fastify({
    loggerInstance: deps.logger,
    genReqId: deps.newRequestId,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: "request_id" }),
    bodyLimit: bodyLimitBytes,
    keepAliveTimeout: 72_000,
    // Long answers (wait, exec, logs) are legal, so it is the request that has limits, not the connection.
    requestTimeout: 0,
    http: { headersTimeout: 10_000, maxHeaderSize: 32 * 1024, shouldUpgradeCallback: wantsWebSocket },
    forceCloseConnections: true,
    exposeHeadRoutes: false,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 512 },
    schemaController: { compilersFactory },
    frameworkErrors: (thrown, _request, reply: FastifyReply) => {
      const error = asHearthError(thrown);
      void reply.code(error.status).send(wireError(error));
    },
  }).withTypeProvider<TypeBoxProvider>() as unknown as App;
  app.addHook("onRequest", async (request, reply) => {
    reply.header(requestIdHeader, request.id);
    if (request.routeOptions.config.open !== true) await deps.gate.admit(request, reply);
    // Bytes are bytes: no parser may take them for what the client says they are.
    if (request.routeOptions.config.upload === true)
      request.headers["content-type"] = "application/octet-stream";
  });
  addBodyParsers(app);
  app.addHook("onResponse", async (request, reply) => {
    const { app: appName, id: machineId } = (request.params ?? {}) as Record<string, string | undefined>;
    const level = request.routeOptions.config.polled === true ? "debug" : "info";
    request.log[level](
      {
        method: request.method,
        route: request.routeOptions.url ?? "none",
        status: reply.statusCode,
        ms: Math.round(reply.elapsedTime),
        ...(appName === undefined ? {} : { app: appName }),
        ...(machineId === undefined ? {} : { machine_id: machineId }),
      },
      "request",
    );
  });
  app.setNotFoundHandler(async (request) => {
    throw new HearthError("not_found", {
      message: `There is nothing at ${request.method} ${request.url.split("?")[0]}; /v1/openapi.json lists what there is.`,
    });
  });
  app.setErrorHandler(async (thrown, request, reply) => {
    const error = asHearthError(thrown);
    if (error.status >= 500)
      request.log.error({ err: error.cause ?? error, code: error.code }, error.message);
    return reply.code(error.status).send(wireError(error));
  });
  return app;
}

function addBodyParsers(app: App): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("application/json", { parseAs: "string" }, (_request, text, done) => {
    // Clients that send the type with every request, also with those that have no body, must be served.
    if (text === "") return done(null, undefined);
    try {
      done(null, JSON.parse(text as string));
    } catch (cause) {
      done(new HearthError("malformed_json", { cause }));
    }
  });
  app.addContentTypeParser("*", (request, payload, done) => {
    if (request.routeOptions.config.upload === true) return done(null, payload);
    if (request.headers["content-length"] === "0") return done(null, undefined);
    done(
      new HearthError("invalid_argument", {
        message: "The body has a type that is not read here; send `Content-Type: application/json`.",
        details: { field: "content-type" },
      }),
    );
  });
  app.addHook("preParsing", async (request, reply, payload) => {
    const { "content-length": length, "transfer-encoding": encoding } = request.headers;
    if (request.routeOptions.config.upload === true || !(Number(length) > 0 || encoding)) return payload;
    const slow = setTimeout(
      () =>
        request.raw.destroy(new HearthError("deadline_exceeded", { message: "The body came too slowly." })),
      bodyDeadlineMs,
    );
    // A body that is refused is not read to its end, and its connection may serve the next request.
    const calm = (): void => clearTimeout(slow);
    payload.once("end", calm);
    reply.raw.once("close", calm);
    return payload;
  });
}

/** What the framework throws before a handler runs has its own codes; anything else is as it was thrown. */
export function asHearthError(thrown: unknown): HearthError {
  if (thrown instanceof HearthError) return thrown;
  if (!(thrown instanceof Error) || !("statusCode" in thrown)) return HearthError.from(thrown);
  const { statusCode } = thrown;
  if (statusCode === 413) return new HearthError("payload_too_large", { cause: thrown });
  if (typeof statusCode !== "number" || statusCode >= 500) return HearthError.from(thrown);
  if (statusCode === 404) return new HearthError("not_found", { cause: thrown });
  return new HearthError("invalid_argument", {
    message:
      statusCode === 415
        ? "The body has no type; send `Content-Type: application/json`."
        : "The request is not valid HTTP; check its path, headers and length.",
    cause: thrown,
  });
}
