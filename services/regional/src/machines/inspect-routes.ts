/** What a machine did and does: events, versions, processes; and the machines of an organisation. */
import { HearthError } from "@hearth/errors";
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { answers, closed, MachineParams, opt } from "../http/schemas.ts";
import type { MachineSummary } from "../state/machine-index.ts";
import { isWanted } from "./machine-list.ts";
import { MachineAnswerBody, MachineEventAnswer } from "./machine-schemas.ts";

const tags = ["machines"];
const machinePath = "/v1/apps/:app/machines/:id";
const longestPage = 1000;
const defaultPage = 500;

const ProcessStat = Type.Object({
  pid: Type.Integer(),
  stime: Type.Integer(),
  rtime: Type.Integer(),
  command: Type.String(),
  directory: Type.String(),
  cpu: Type.Number(),
  rss: Type.Integer(),
  listen_sockets: Type.Array(Type.Object({ proto: Type.String(), address: Type.String() })),
});
type ProcessStat = Type.Static<typeof ProcessStat>;
const sortable = ["pid", "stime", "rtime", "command", "directory", "cpu", "rss"] as const;

export function inspectRoutes(app: App, context: ApiContext): void {
  const { view, access, gate } = context;

  app.get(
    `${machinePath}/events`,
    {
      schema: {
        tags,
        summary: "What happened to a machine, newest first",
        params: MachineParams,
        querystring: Type.Object(
          { limit: opt(Type.Integer({ minimum: 1, maximum: 50, default: 20 })) },
          closed,
        ),
        response: answers({ 200: Type.Array(MachineEventAnswer) }),
      },
    },
    async ({ params, query: { limit = 20 } }) => {
      const fact = view.machine(params.app, params.id);
      // The worker has them all. What is replicated is the best answer while it is away, or has forgotten.
      return access.ask(fact, "events", { limit }).catch((thrown: unknown) => {
        const { code } = HearthError.from(thrown);
        if (!["unavailable", "deadline_exceeded", "machine_not_found"].includes(code)) throw thrown;
        return fact.record.events.slice(0, limit);
      });
    },
  );

  app.get(
    `${machinePath}/versions`,
    {
      schema: {
        tags,
        summary: "The configurations that a machine has had",
        params: MachineParams,
        response: answers({
          200: Type.Array(Type.Object({ version: Type.String(), user_config: Type.Unknown() })),
        }),
      },
    },
    async ({ params }) => access.ask(view.machine(params.app, params.id), "versions", {}),
  );

  app.get(
    `${machinePath}/ps`,
    {
      schema: {
        tags,
        summary: "The processes of a machine",
        params: MachineParams,
        querystring: Type.Object(
          { sort_by: opt(Type.Enum([...sortable])), order: opt(Type.Enum(["asc", "desc"])) },
          closed,
        ),
        response: answers({ 200: Type.Array(ProcessStat) }),
      },
    },
    async ({ params, query: { sort_by = "pid", order = "asc" } }) => {
      const found = (await access.ask(view.machine(params.app, params.id), "ps", {})) as ProcessStat[];
      const sign = order === "asc" ? 1 : -1;
      return found.sort((a, b) => sign * (a[sort_by] < b[sort_by] ? -1 : a[sort_by] > b[sort_by] ? 1 : 0));
    },
  );

  app.get(
    "/v1/orgs/:org/machines",
    {
      schema: {
        tags,
        summary: "The machines of all apps of an organisation, by id",
        params: Type.Object({ org: Type.String() }),
        querystring: Type.Object(
          {
            include_deleted: opt(Type.Boolean()),
            region: opt(Type.String()),
            state: opt(Type.String()),
            updated_after: opt(Type.String({ description: "RFC 3339." })),
            cursor: opt(Type.String()),
            limit: opt(Type.Integer({ minimum: 1, maximum: longestPage, default: defaultPage })),
          },
          closed,
        ),
        response: answers({
          200: Type.Object({
            machines: Type.Array(
              Type.Intersect([
                MachineAnswerBody,
                Type.Object({ app_id: Type.String(), app_name: Type.String() }),
              ]),
            ),
            next_cursor: Type.String({ description: "Empty on the last page." }),
            last_machine_id: Type.String(),
            last_updated_at: Type.String(),
          }),
        }),
      },
    },
    async (request) => {
      const { params, query } = request;
      const { limit = defaultPage, cursor = "", updated_after, ...filter } = query;
      const after = updated_after ? Date.parse(updated_after) : Number.NEGATIVE_INFINITY;
      if (Number.isNaN(after))
        throw new HearthError("invalid_argument", { details: { field: "updated_after" } });
      const caller = gate.callerOf(request);
      const apps = new Map(
        caller
          .visibleApps(view)
          .filter(({ org_slug }) => org_slug === params.org)
          .map((one) => [one.name, one]),
      );
      const isVisible = ({ app, id }: MachineSummary): boolean => {
        const of = apps.get(app);
        return of !== undefined && caller.seesMachine(of, id);
      };
      const left = view
        .machineSummaries()
        .filter((one) => isVisible(one) && one.id > cursor && isWanted(one, filter) && one.updatedMs > after);
      const machines = left
        .slice(0, limit)
        .flatMap(({ id }) => view.findMachine(id) ?? [])
        .map((fact) => ({
          app_id: apps.get(fact.app)?.id ?? "",
          app_name: fact.app,
          ...view.recordOf(fact),
        }));
      const last = machines.at(-1);
      return {
        machines,
        next_cursor: left.length > limit ? (last?.id ?? "") : "",
        last_machine_id: last?.id ?? "",
        last_updated_at:
          machines
            .map(({ updated_at }) => updated_at)
            .sort()
            .at(-1) ?? "",
      };
    },
  );
}
