/** Files inside a machine: read, write, remove, and what is around them. */
import { GuestPath } from "@hearth/machine";
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { answers, closed, MachineParams, Ok, opt } from "../http/schemas.ts";
import { answerWithStream } from "../http/stream-answer.ts";
import { upload } from "../http/upload.ts";

const tags = ["files"];
const filesPath = "/v1/apps/:app/machines/:id/files";
const firstWithinMs = 30_000;
const PathQuery = Type.Object({ path: GuestPath }, closed);
const FileAnswer = Type.Object(
  {
    name: Type.String(),
    kind: Type.Enum(["regular", "directory", "symlink", "other"]),
    size: Type.Integer(),
    mode: Type.Integer({ description: "The permission bits." }),
    uid: Type.Integer(),
    gid: Type.Integer(),
    modified_ms: Type.Integer(),
    link_target: Type.String(),
  },
  { description: "A symbolic link is described itself." },
);

export function filesRoutes(app: App, context: ApiContext): void {
  const { view, access, gate } = context;
  const machine = ({ app: name, id }: { app: string; id: string }) => view.machine(name, id);

  app.get(
    filesPath,
    {
      config: { answers: "bytes" },
      schema: {
        tags,
        summary: "The bytes of a file",
        params: MachineParams,
        querystring: PathQuery,
        response: answers({ 200: Type.String({ format: "binary", description: "The bytes." }) }),
      },
    },
    async (request, reply) => {
      const stream = await access.open(machine(request.params), "file-read", request.query);
      await answerWithStream({ request, reply, ended: gate.endedOf(request) }, stream, {
        kind: "bytes",
        firstWithinMs,
      });
    },
  );

  app.put(
    filesPath,
    {
      config: { upload: true },
      schema: {
        tags,
        summary: "Write a file, sent as application/octet-stream; it appears whole or not at all",
        params: MachineParams,
        querystring: Type.Object(
          {
            path: GuestPath,
            mode: opt(
              Type.Integer({
                minimum: 0,
                maximum: 0o7777,
                description: "Permission bits as a decimal number: 420 is rw-r--r--.",
              }),
            ),
          },
          closed,
        ),
        response: answers({ 200: Ok }),
      },
    },
    async ({ params, query, raw }) => {
      const stream = await access.open(machine(params), "file-write", query);
      await upload(raw, stream);
      // The node ends its side when the file is there.
      while ((await stream.read()) !== undefined);
      return { ok: true };
    },
  );

  app.delete(
    filesPath,
    {
      schema: {
        tags,
        summary: "Remove a file, or with `recursive` a directory and all below it",
        params: MachineParams,
        querystring: Type.Object({ path: GuestPath, recursive: opt(Type.Boolean()) }, closed),
        response: answers({ 200: Ok }),
      },
    },
    async ({ params, query }) => {
      await access.ask(machine(params), "file-remove", query);
      return { ok: true };
    },
  );

  app.get(
    `${filesPath}/stat`,
    {
      schema: {
        tags,
        summary: "What a path is",
        params: MachineParams,
        querystring: PathQuery,
        response: answers({ 200: FileAnswer }),
      },
    },
    async ({ params, query }) => access.ask(machine(params), "file-stat", query),
  );

  app.get(
    `${filesPath}/list`,
    {
      schema: {
        tags,
        summary: "What is in a directory",
        params: MachineParams,
        querystring: PathQuery,
        response: answers({ 200: Type.Array(FileAnswer) }),
      },
    },
    async ({ params, query }) => access.ask(machine(params), "file-list", query),
  );

  app.post(
    `${filesPath}/mkdir`,
    {
      schema: {
        tags,
        summary: "Make a directory",
        params: MachineParams,
        body: Type.Object({ path: GuestPath, parents: opt(Type.Boolean()) }, closed),
        response: answers({ 200: Ok }),
      },
    },
    async ({ params, body }) => {
      await access.ask(machine(params), "file-mkdir", body);
      return { ok: true };
    },
  );

  app.post(
    `${filesPath}/rename`,
    {
      schema: {
        tags,
        summary: "Rename a file or directory",
        params: MachineParams,
        body: Type.Object({ path: GuestPath, to: GuestPath }, closed),
        response: answers({ 200: Ok }),
      },
    },
    async ({ params, body }) => {
      await access.ask(machine(params), "file-rename", body);
      return { ok: true };
    },
  );
}
