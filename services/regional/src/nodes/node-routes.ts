/** Nodes, and what operators want of them: cordon, drain, remove. A drain is a wish; `NodeKeeper` fulfils it. */
import { HearthError } from "@hearth/errors";
import { factKeys, type NodePolicyFact } from "@hearth/machine";
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { answers, closed, opt } from "../http/schemas.ts";
import { decidePolicy } from "../state/region-writes.ts";
import { knownNode } from "./node-drain.ts";
import { removeNode } from "./node-remove.ts";
import { busExits } from "./node-remove-bus.ts";
import { describeMoves, describeNode, NodeAnswer, NodeDetail } from "./node-status.ts";

const NodeParams = Type.Object({ node: Type.String() });
const decideAttempts = 5;

const wishes = {
  cordon: { summary: "Place no new machine on a node; those that it has run on", wish: { cordoned: true } },
  uncordon: { summary: "Place machines on the node again", wish: { cordoned: false, draining: false } },
  drain: {
    summary: "Cordon a node and move its machines to others, one by one",
    wish: { cordoned: true, draining: true },
  },
  undrain: {
    summary: "Stop moving machines away, and place machines on the node again",
    wish: { cordoned: false, draining: false },
  },
} as const;

export function nodeRoutes(app: App, context: ApiContext): void {
  const { view } = context;
  const detail = (nodeId: string) => {
    const node = view.node(nodeId);
    if (node === undefined) throw notFound(nodeId);
    return { ...describeNode(view, node), ...describeMoves(view, nodeId) };
  };

  app.get(
    "/v1/nodes",
    {
      config: { polled: true },
      schema: {
        tags: ["platform"],
        summary: "The nodes, as each last described itself",
        response: answers({ 200: Type.Array(NodeAnswer) }),
      },
    },
    async () => view.nodes().map((node) => describeNode(view, node)),
  );

  app.get(
    "/v1/nodes/:node",
    {
      config: { polled: true },
      schema: {
        tags: ["platform"],
        summary: "One node, with its machines and what becomes of them",
        params: NodeParams,
        response: answers({ 200: NodeDetail }),
      },
    },
    async ({ params: { node } }) => detail(node),
  );

  for (const verb of ["cordon", "uncordon", "drain", "undrain"] as const)
    app.post(
      `/v1/nodes/:node/${verb}`,
      {
        schema: {
          tags: ["platform"],
          summary: wishes[verb].summary,
          params: NodeParams,
          response: answers({ 200: NodeDetail }),
        },
      },
      async ({ params: { node } }) => {
        await want(context, node, wishes[verb].wish);
        return detail(node);
      },
    );

  app.delete(
    "/v1/nodes/:node",
    {
      schema: {
        tags: ["platform"],
        summary: "Take a node out of the region, with its credentials",
        description:
          "Refused while it has machines, and when the bus would stop without it. `force` forgets the machines of a node whose host is gone for good; those with restart_elsewhere have to be elsewhere before.",
        params: NodeParams,
        querystring: Type.Object({ force: opt(Type.Boolean()) }, closed),
        response: answers({
          200: Type.Object({
            ok: Type.Boolean(),
            forgotten: Type.Array(Type.String()),
            bus: Type.Optional(
              Type.Enum([...busExits], {
                description:
                  "Of a node that ran a server of the bus: whether the others already go on without it, with another secret.",
              }),
            ),
          }),
        }),
      },
    },
    async ({ params: { node }, query: { force = false } }) => {
      // One that joined has credentials, also when its host was lost before it said anything.
      const hasJoined = view.replica.get(factKeys.nodeKey(node)) !== undefined;
      if (!hasJoined && !view.region.isRemoved(node)) knownNode(view, node);
      return { ok: true, ...(await removeNode(context, node, force)) };
    },
  );
}

async function want(
  context: ApiContext,
  nodeId: string,
  wish: Partial<Pick<NodePolicyFact, "cordoned" | "draining">>,
): Promise<void> {
  const { view, nowMs } = context;
  for (let attempt = 1; attempt <= decideAttempts; attempt += 1) {
    knownNode(view, nodeId);
    const known = view.region.policy(nodeId);
    const now = { cordoned: known?.value.cordoned ?? false, draining: known?.value.draining ?? false };
    const next = { ...now, ...wish };
    if (next.cordoned === now.cordoned && next.draining === now.draining) return;
    const value = { ...next, node_id: nodeId, changed_at_ms: nowMs() };
    if (await decidePolicy(context, value, known?.revision ?? 0)) return;
  }
  throw new HearthError("conflict");
}

const notFound = (nodeId: string): HearthError =>
  new HearthError("not_found", {
    message: `There is no node ${nodeId}; \`GET /v1/nodes\` lists them.`,
    details: { node_id: nodeId },
  });
