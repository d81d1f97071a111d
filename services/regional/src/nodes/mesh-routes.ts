/**
 * The network between hosts: how it stands, and the wish for new keys. What a host hears it alone knows, so each is
 * asked; a wish is a fact that all hosts follow, and is refused while an earlier one is not fulfilled.
 */
import { HearthError } from "@hearth/errors";
import {
  factKeys,
  type MeshEpochFact,
  type MeshNodeStatus,
  MeshStatus,
  meshEpochOf,
  meshNodeWithout,
  parseMeshNodeStatus,
} from "@hearth/machine";
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { answers } from "../http/schemas.ts";
import { writeFact } from "../state/write-fact.ts";
import { nodeKeys } from "./join.ts";

const askLimitMs = 2_000;

export function meshRoutes(app: App, context: ApiContext): void {
  app.get(
    "/v1/mesh",
    {
      config: { polled: true },
      schema: {
        tags: ["platform"],
        summary: "The network between hosts, as each host sees it now",
        response: answers({ 200: MeshStatus }),
      },
    },
    async () => meshStatus(context),
  );

  app.post(
    "/v1/mesh/rotate",
    {
      schema: {
        tags: ["platform"],
        summary: "Have all hosts make new keys and change over to them, with no gap between",
        description: "Answers when it is wanted; `GET /v1/mesh` says `steady` when it is done.",
        response: answers({ 200: MeshStatus }),
      },
    },
    async () => {
      // Before it is judged: who wished meanwhile has written another.
      const known = context.view.replica.get(factKeys.meshEpoch());
      const before = await meshStatus(context);
      if (before.state === "none")
        throw new HearthError("conflict", {
          message:
            "There is no mesh, as no host reaches another; `hearth up --address` and `hearth join` make one.",
        });
      if (before.state === "rotating") throw new HearthError("conflict", { message: underWay(before) });
      const value: MeshEpochFact = { epoch: before.epoch + 1, wanted_at_ms: context.nowMs() };
      await writeFact(context, {
        key: factKeys.meshEpoch(),
        value,
        expectedRevision: known?.revision ?? 0,
      });
      context.logger.info({ epoch: value.epoch }, "new keys of the mesh are wanted");
      return meshStatus(context);
    },
  );
}

async function meshStatus(context: ApiContext): Promise<MeshStatus> {
  const epoch = meshEpochOf(context.view.replica.get(factKeys.meshEpoch())?.value);
  const known = nodeKeys(context).toSorted((a, b) => a.host_number - b.host_number);
  const nodes = await Promise.all(known.map(({ node_id }) => ask(context, node_id)));
  const keyed = nodes.filter(({ epochs }) => epochs.length > 0);
  const isSteady = keyed.every(({ epochs }) => epochs.length === 1 && epochs[0] === epoch);
  return { state: keyed.length === 0 ? "none" : isSteady ? "steady" : "rotating", epoch, nodes };
}

async function ask(context: ApiContext, nodeId: string): Promise<MeshNodeStatus> {
  try {
    const options = { timeoutMs: askLimitMs };
    const answer = await context.bus().request(nodeId, "host-agent", "mesh-status", {}, options);
    const status = parseMeshNodeStatus(answer);
    if (status !== undefined) return status;
    return meshNodeWithout(nodeId, "unreachable", "Its host agent answers what this version does not know.");
  } catch (thrown) {
    const { code } = HearthError.from(thrown);
    const isAway = code === "unavailable" || code === "deadline_exceeded";
    return meshNodeWithout(
      nodeId,
      "unreachable",
      isAway ? "Its host agent does not answer." : HearthError.from(thrown).message,
    );
  }
}

function underWay({ nodes }: MeshStatus): string {
  const waits = [...new Set(nodes.flatMap(({ waits_for }) => waits_for))].sort();
  const why = waits.length === 0 ? "" : ` It waits for ${waits.join(", ")}.`;
  return `A rotation is under way; \`hearth mesh status\` says when it is done.${why}`;
}
