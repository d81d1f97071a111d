/** Whether a node's host has what its worker's database says, and nothing else of ours. */
import { HearthError } from "@hearth/errors";
import { differenceKinds } from "@hearth/machine";
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { answers } from "../http/schemas.ts";
import { describeUnreachable } from "../machines/machine-access.ts";

/** Two looks at a host with many machines. */
const inspectionLimitMs = 30_000;

const DifferenceAnswer = Type.Object({
  kind: Type.Enum([...differenceKinds]),
  key: Type.String({ description: "Names the thing within its kind." }),
  machine_id: Type.Union([Type.String(), Type.Null()], { description: "Whose it is, where that is known." }),
  problem: Type.Enum(["unexpected", "missing", "inconsistent"]),
  message: Type.String(),
  pending: Type.Boolean({ description: "Something is being done to the machine, so this may be passing." }),
});

export function inspectionRoutes(app: App, { view, worker }: ApiContext): void {
  app.get(
    "/v1/nodes/:node/inspection",
    {
      schema: {
        tags: ["platform"],
        summary: "Compare the database of a node's worker with its host",
        params: Type.Object({ node: Type.String() }),
        response: answers({
          200: Type.Object({
            node_id: Type.String(),
            machines: Type.Integer(),
            differences: Type.Array(DifferenceAnswer),
          }),
        }),
      },
    },
    async ({ params: { node } }) => {
      if (!view.nodes().some(({ node_id }) => node_id === node))
        throw new HearthError("not_found", {
          message: `There is no node ${node}; \`GET /v1/nodes\` lists them.`,
          details: { node_id: node },
        });
      return worker
        .command(node, "inspect", {}, inspectionLimitMs)
        .catch(describeUnreachable({ node_id: node }));
    },
  );
}
