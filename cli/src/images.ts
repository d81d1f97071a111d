/** `hearth images`: what nodes have, and how it gets there. */
import { open } from "node:fs/promises";
import { Transform } from "node:stream";
import { HearthError } from "@hearth/errors";
import type { ImageMessage, NodeImage } from "@hearth/machine";
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { ImageProgress } from "./image-progress.ts";
import { jsonOption } from "./options.ts";
import { formatBytes, printJson, printLine, printTable } from "./output.ts";

interface Json {
  readonly json?: boolean;
}

export function define(command: Command, context: Context): void {
  command.addOption(jsonOption()).action(({ json = false }: Json) => list(context, json));
  command
    .command("list", { hidden: true })
    .alias("ls")
    .addOption(jsonOption())
    .action((_options, own: Command) => list(context, isJson(own)));
  command
    .command("pull")
    .description("download an image from its registry")
    .argument("<reference>", "such as alpine:3 or registry.example:5000/app@sha256:...")
    .addOption(jsonOption())
    .action(async (reference: string, _options, own: Command) => {
      const progress = new ImageProgress(reference, { silent: isJson(own) });
      const image = await arrival(context.client().images.pull(reference), progress);
      report(image, isJson(own));
    });
  command
    .command("import")
    .description("take an image from a file: an OCI layout as tar, or what `docker save` writes")
    .argument("<file>", "the archive; - reads standard input")
    .requiredOption("--name <reference>", "the name that machines will use, such as demo:latest")
    .addOption(jsonOption())
    .action(async (file: string, { name }: { name: string }, own: Command) => {
      const progress = new ImageProgress(name, { silent: isJson(own), verb: "Importing" });
      report(await importFile(context, file, name, progress), isJson(own));
    });
  command
    .command("rm")
    .description("forget images")
    .argument("<reference...>")
    .addOption(jsonOption())
    .action(async (references: string[], _options, own: Command) => {
      for (const reference of references) {
        await context.client().images.remove(reference);
        if (!isJson(own)) printLine(reference);
      }
      if (isJson(own)) printJson({ removed: references });
    });
}

/** Also when it stands before the subcommand. */
const isJson = (command: Command): boolean => command.optsWithGlobals<Json>().json === true;

async function list(context: Context, json: boolean): Promise<void> {
  const images = await context.client().images.list();
  if (json) return printJson(images);
  const row = ({ reference, digest, sizeBytes, ...rest }: NodeImage & { readonly node_id?: string }) => [
    // As people write it.
    reference.replace(/^docker\.io\/(library\/)?/, ""),
    digest.replace(/^sha256:/, "").slice(0, 12),
    formatBytes(sizeBytes),
    rest.node_id ?? "",
  ];
  printTable(["IMAGE", "DIGEST", "SIZE", "NODE"], images.map(row));
}

function report(image: NodeImage, json: boolean): void {
  if (json) printJson(image);
  else printLine(`${image.reference} ${formatBytes(image.sizeBytes)}`);
}

/** Follows the way of an image to its end. */
export async function arrival(
  messages: AsyncIterable<ImageMessage>,
  progress: ImageProgress,
): Promise<NodeImage> {
  try {
    for await (const message of messages) {
      progress.take(message);
      if (message.kind === "done") return message.image;
    }
  } finally {
    progress.end();
  }
  throw new HearthError("unavailable", {
    message: "The API ended before it said that the image is there; try again.",
  });
}

async function importFile(
  { client }: Context,
  file: string,
  name: string,
  progress: ImageProgress,
): Promise<NodeImage> {
  // Opened first, so that a file that cannot be read is not mistaken for an API that does not answer.
  const handle = file === "-" ? undefined : await open(file);
  const total = (await handle?.stat())?.size ?? 0;
  const source = handle?.createReadStream() ?? process.stdin;
  let done = 0;
  const counted = new Transform({
    transform(chunk: Buffer, _encoding, next) {
      done += chunk.length;
      progress.bytes(done, total);
      next(null, chunk);
    },
  });
  source.once("error", (error: Error) => counted.destroy(error));
  return await arrival(client().images.import(name, source.pipe(counted)), progress);
}
