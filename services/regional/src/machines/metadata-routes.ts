/** Metadata of a machine: names and values that restart nothing and make no new version. */
import { HearthError } from "@hearth/errors";
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { answers, closed, MachineParams, opt } from "../http/schemas.ts";
import { invalid, keepsNulls } from "../http/validation.ts";
import { LeaseHeaders, leaseNonce } from "./lease-header.ts";

const tags = ["metadata"];
const metadataPath = "/v1/apps/:app/machines/:id/metadata";
const KeyParams = Type.Object({ app: Type.String(), id: Type.String(), key: Type.String() });
const NoContent = Type.Null({ description: "Done; no body." });
const longestKey = 256;
const longestValue = 16 * 1024;

const MetadataPatch = Type.Object(
  {
    metadata: Type.Record(Type.String(), Type.Union([Type.String(), Type.Null()]), {
      description: "Null or an empty text removes a key; keys that are not named stay.",
    }),
    machine_version: opt(
      Type.Union([Type.String(), Type.Null()], {
        description: "Refused with 412 when the machine has another version by now.",
      }),
    ),
    updated_at: opt(Type.Unknown()),
  },
  { ...closed, [keepsNulls]: true },
);

export function metadataRoutes(app: App, context: ApiContext): void {
  const { view, access } = context;
  const set = async (
    params: { app: string; id: string },
    metadata: Record<string, string | null>,
    nonce: string | undefined,
  ): Promise<void> => {
    for (const [key, value] of Object.entries(metadata)) checkEntry(key, value);
    await access.change(view.machine(params.app, params.id), "set-metadata", { metadata }, nonce);
  };

  app.get(
    metadataPath,
    {
      schema: {
        tags,
        summary: "All metadata of a machine",
        params: MachineParams,
        response: answers({ 200: Type.Record(Type.String(), Type.String()) }),
      },
    },
    async ({ params }) => view.machine(params.app, params.id).record.config.metadata ?? {},
  );

  for (const method of ["PUT", "PATCH"] as const)
    app.route({
      method,
      url: metadataPath,
      schema: {
        tags,
        summary: "Set and remove several keys at once",
        params: MachineParams,
        headers: LeaseHeaders,
        body: MetadataPatch,
        response: answers({ 204: NoContent }),
      },
      handler: async ({ params, body, headers }, reply) => {
        const version = view.machine(params.app, params.id).record.instance_id;
        if (body.machine_version && body.machine_version !== version)
          throw new HearthError("illegal_transition", {
            message: `failed_precondition: machine_version is ${body.machine_version} and the machine has ${version}; read it again.`,
            details: { field: "machine_version", current_version: version },
          });
        const entries = Object.entries(body.metadata).map(([key, value]) => [
          key,
          value === "" ? null : value,
        ]);
        await set(params, Object.fromEntries(entries), leaseNonce(headers));
        return reply.code(204).send();
      },
    });

  app.get(
    `${metadataPath}/:key`,
    {
      schema: {
        tags,
        summary: "One value of the metadata",
        params: KeyParams,
        response: answers({ 200: Type.Object({ value: Type.String() }) }),
      },
    },
    async ({ params }) => {
      const { metadata = {} } = view.machine(params.app, params.id).record.config;
      const value = Object.hasOwn(metadata, params.key) ? metadata[params.key] : undefined;
      if (value !== undefined) return { value };
      throw new HearthError("not_found", {
        message: `The machine has no metadata "${params.key}"; list what it has.`,
        details: { key: params.key },
      });
    },
  );

  app.post(
    `${metadataPath}/:key`,
    {
      schema: {
        tags,
        summary: "Set one value of the metadata",
        params: KeyParams,
        headers: LeaseHeaders,
        body: Type.Object({ value: Type.String(), updated_at: opt(Type.Unknown()) }, closed),
        response: answers({ 204: NoContent }),
      },
    },
    async ({ params, body, headers }, reply) => {
      await set(params, { [params.key]: body.value }, leaseNonce(headers));
      return reply.code(204).send();
    },
  );

  app.delete(
    `${metadataPath}/:key`,
    {
      schema: {
        tags,
        summary: "Remove one value of the metadata",
        params: KeyParams,
        headers: LeaseHeaders,
        response: answers({ 204: NoContent }),
      },
    },
    async ({ params, headers }, reply) => {
      await set(params, { [params.key]: null }, leaseNonce(headers));
      return reply.code(204).send();
    },
  );
}

function checkEntry(key: string, value: string | null): void {
  if (key === "" || key.length > longestKey)
    throw invalid("metadata", `has a key of 0 or over ${longestKey} characters`);
  if ((value?.length ?? 0) > longestValue)
    throw invalid(`metadata.${key}`, `is longer than ${longestValue} characters`);
}
