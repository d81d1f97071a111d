/** Machines: create, read, update and destroy. */
import { HearthError } from "@hearth/errors";
import { type MachineRecord, newInstanceId, parseMachineConfig } from "@hearth/machine";
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { AppParams, answers, closed, MachineParams, Ok, opt } from "../http/schemas.ts";
import { invalid } from "../http/validation.ts";
import { LeaseHeaders, leaseNonce } from "./lease-header.ts";
import { createMachine } from "./machine-create.ts";
import { ListQuery, listMachines } from "./machine-list.ts";
import {
  CreatedMachine,
  CreateMachine,
  MachineAnswerBody,
  MachineListed,
  UpdateMachine,
} from "./machine-schemas.ts";
import { warningsOf } from "./machine-warnings.ts";

const tags = ["machines"];
const idempotencyHeader = "idempotency-key";
const CreateHeaders = Type.Object({
  [idempotencyHeader]: opt(
    Type.String({
      minLength: 1,
      maxLength: 255,
      description: "A retry with the same key and body gets the machine of the first request.",
    }),
  ),
});

/** A machine that rests stays at rest when its configuration changes; one that failed is tried again. */
const resting = new Set(["created", "stopped", "stopping", "suspended", "suspending"]);

export function machinesRoutes(app: App, context: ApiContext): void {
  const { view, access } = context;
  const withWarnings = (record: MachineRecord, body: Parameters<typeof warningsOf>[0]) => {
    const warnings = warningsOf(body);
    return warnings.length === 0 ? record : { ...record, warnings };
  };

  app.get(
    "/v1/apps/:app/machines",
    {
      schema: {
        tags,
        summary: "List the machines of an app",
        description:
          "`metadata.<key>=<value>` in the query keeps the machines whose metadata has this value.",
        params: AppParams,
        querystring: ListQuery,
        response: answers({ 200: Type.Array(MachineListed) }),
      },
    },
    async (request) =>
      listMachines(context, context.gate.callerOf(request), {
        app: request.params.app,
        filter: request.query,
      }),
  );

  app.post(
    "/v1/apps/:app/machines",
    {
      schema: {
        tags,
        summary: "Create a machine and start it, unless `skip_launch`",
        description: "With an `Idempotency-Key` header a retry gets the machine of the first request.",
        params: AppParams,
        headers: CreateHeaders,
        body: CreateMachine,
        response: answers({ 200: CreatedMachine }),
      },
    },
    async ({ params, body, headers }) => {
      const { name, region, config, skip_launch, lease_ttl } = body;
      const key = headers[idempotencyHeader];
      const { record, placement } = await createMachine(context, params.app, {
        name,
        region: region || undefined,
        config,
        launch: skip_launch !== true,
        leaseTtlMs: lease_ttl === undefined ? undefined : lease_ttl * 1000,
        idempotency: key === undefined ? undefined : { key, body },
      });
      return { ...withWarnings(record, body), ...(placement === undefined ? {} : { placement }) };
    },
  );

  app.get(
    "/v1/apps/:app/machines/:id",
    {
      schema: {
        tags,
        summary: "Get a machine",
        params: MachineParams,
        response: answers({ 200: MachineAnswerBody }),
      },
    },
    async ({ params }) => view.recordOf(view.machine(params.app, params.id)),
  );

  app.post(
    "/v1/apps/:app/machines/:id",
    {
      schema: {
        tags,
        summary: "Replace the configuration of a machine, which makes a new version of it",
        params: MachineParams,
        headers: LeaseHeaders,
        body: UpdateMachine,
        response: answers({ 200: MachineAnswerBody }),
      },
    },
    async ({ params, body, headers }) => {
      const fact = view.machine(params.app, params.id);
      const { record } = fact;
      if (body.name && body.name !== record.name) throw invalid("name", "cannot be changed by an update");
      if (body.region && body.region !== record.region)
        throw invalid("region", "cannot be changed by an update");
      const config = parseMachineConfig(body.config);
      if (body.current_version !== undefined && body.current_version !== record.instance_id)
        throw new HearthError("conflict", {
          message: `current_version is ${body.current_version} and the machine has ${record.instance_id}; read it again and retry.`,
          details: { field: "current_version", current_version: record.instance_id },
        });
      if (config.image !== record.config.image) await context.images.check(fact.node_id, config.image);
      const updated = await access.change(
        fact,
        "update",
        {
          instance_id: newInstanceId(context.randomBytes, context.nowMs),
          config,
          launch: body.skip_launch !== true && !resting.has(record.state),
          ...(body.current_version === undefined ? {} : { current_version: body.current_version }),
          ...(body.lease_ttl === undefined ? {} : { lease_ttl_ms: body.lease_ttl * 1000 }),
        },
        leaseNonce(headers),
      );
      return withWarnings(updated, body);
    },
  );

  app.delete(
    "/v1/apps/:app/machines/:id",
    {
      schema: {
        tags,
        summary: "Destroy a machine; one that runs only with `force` (or `kill`)",
        params: MachineParams,
        headers: LeaseHeaders,
        querystring: Type.Object({ force: opt(Type.Boolean()), kill: opt(Type.Boolean()) }, closed),
        response: answers({ 200: Ok }),
      },
    },
    async ({ params, query, headers }) => {
      const fact = view.machine(params.app, params.id);
      const force = query.force === true || query.kill === true;
      await access.change(fact, "destroy", { force }, leaseNonce(headers));
      return { ok: true };
    },
  );
}
