/** Images of the nodes: list, pull, import, remove. */
import { openStream } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import type { NodeFact, NodeImage } from "@hearth/machine";
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { answers, closed, Ok, opt } from "../http/schemas.ts";
import { answerWithStream } from "../http/stream-answer.ts";
import { upload } from "../http/upload.ts";
import { imagesService } from "../placement/image-check.ts";

const tags = ["images"];
const commandLimitMs = 10_000;
const removeLimitMs = 60_000;
/** Until a registry says whether it has the image. */
const pullAnswerLimitMs = 60_000;
const importAnswerLimitMs = 3_600_000;

const reference = Type.String({ minLength: 1, maxLength: 512 });
const node_id = opt(Type.String({ description: "Which node; one is chosen when it is absent." }));
const ImageAnswer = Type.Object({
  node_id: Type.String(),
  reference: Type.String(),
  imageId: Type.String(),
  digest: Type.String(),
  rootfsPath: Type.String({ description: "On the node." }),
  sizeBytes: Type.Integer(),
  config: Type.Object({
    entrypoint: Type.Array(Type.String()),
    cmd: Type.Array(Type.String()),
    env: Type.Array(Type.String()),
    user: Type.String(),
    workdir: Type.String(),
    stopSignal: Type.String(),
    labels: Type.Record(Type.String(), Type.String()),
  }),
});
const Progress = Type.Unknown({
  description:
    "Lines of JSON: `{kind:downloading,doneBytes,totalBytes}`, `{kind:merging}`, and last `{kind:done,image}` or `{kind:error,error}`.",
});

export function imagesRoutes(app: App, context: ApiContext): void {
  const { view, gate } = context;
  const ask = (node: NodeFact, command: string, payload: object, timeoutMs: number): Promise<unknown> =>
    context.bus().request(node.node_id, imagesService, command, payload, { timeoutMs });
  const open = (node: NodeFact, command: string, payload: object) =>
    openStream(context.bus(), { nodeId: node.node_id, service: imagesService, command }, payload, {
      timeoutMs: commandLimitMs,
    });

  app.get(
    "/v1/images",
    {
      schema: {
        tags,
        summary: "The images that nodes have",
        response: answers({ 200: Type.Array(ImageAnswer) }),
      },
    },
    async ({ log }) => {
      const nodes = view.freshNodes();
      const asked = await Promise.allSettled(nodes.map((node) => ask(node, "list", {}, commandLimitMs)));
      const silent = asked.filter((each) => each.status === "rejected");
      if (silent.length > 0 && silent.length === nodes.length) throw silent[0]?.reason;
      if (silent.length > 0) log.warn({ nodes: silent.length }, "nodes did not list their images");
      return asked.flatMap((each, index) =>
        each.status === "fulfilled"
          ? (each.value as NodeImage[]).map((image) => ({
              node_id: nodes[index]?.node_id ?? "",
              ...image,
            }))
          : [],
      );
    },
  );

  app.post(
    "/v1/images/pull",
    {
      config: { answers: "lines" },
      schema: {
        tags,
        summary: "Pull an image to a node; progress as lines of JSON",
        body: Type.Object({ reference, node_id }, closed),
        response: answers({ 200: Progress }),
      },
    },
    async (request, reply) => {
      const { reference, node_id } = request.body;
      const stream = await open(chooseNode(context, node_id), "ensure", { reference });
      await answerWithStream({ request, reply, ended: gate.endedOf(request) }, stream, {
        kind: "lines",
        firstWithinMs: pullAnswerLimitMs,
      });
    },
  );

  app.post(
    "/v1/images/import",
    {
      config: { upload: true, answers: "lines" },
      schema: {
        tags,
        summary: "Import an OCI layout tar or a docker archive, sent as application/octet-stream",
        querystring: Type.Object({ reference, node_id }, closed),
        response: answers({ 200: Progress }),
      },
    },
    async (request, reply) => {
      const { reference, node_id } = request.query;
      const stream = await open(chooseNode(context, node_id), "import", { reference });
      await upload(request.raw, stream);
      await answerWithStream({ request, reply, ended: gate.endedOf(request) }, stream, {
        kind: "lines",
        firstWithinMs: importAnswerLimitMs,
      });
    },
  );

  app.delete(
    "/v1/images",
    {
      schema: {
        tags,
        summary: "Forget an image on every node that has it",
        querystring: Type.Object({ reference }, closed),
        response: answers({ 200: Ok }),
      },
    },
    async ({ query }) => {
      const removed = await Promise.allSettled(
        view.freshNodes().map((node) => ask(node, "remove", query, removeLimitMs)),
      );
      const errors = removed.flatMap((each) =>
        each.status === "rejected" ? [HearthError.from(each.reason)] : [],
      );
      const worst = errors.find(({ code }) => code !== "image_not_found");
      if (worst !== undefined) throw worst;
      if (errors.length === removed.length)
        throw new HearthError("image_not_found", {
          message: `No node has the image ${query.reference}; list the images.`,
          details: { reference: query.reference },
        });
      return { ok: true };
    },
  );
}

/** @throws HearthError `unavailable`, `not_found` for a node that nobody knows */
function chooseNode({ view }: ApiContext, wanted: string | undefined): NodeFact {
  if (wanted !== undefined) {
    const node = view.node(wanted);
    if (node !== undefined) return node;
    throw new HearthError("not_found", {
      message: `There is no node "${wanted}"; list the nodes.`,
      details: { node_id: wanted },
    });
  }
  const [best] = view.freshNodes().sort((a, b) => b.free_memory_mb - a.free_memory_mb);
  if (best !== undefined) return best;
  throw new HearthError("unavailable", { message: "No node was heard of lately; look at the nodes." });
}
