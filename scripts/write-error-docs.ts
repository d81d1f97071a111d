/** Writes docs/errors.md from the registry; a test compares the two. */
import { writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { errorRegistry } from "@hearth/errors";

const rows = Object.entries(errorRegistry).map(
  ([code, { status, retryable, text }]) =>
    `| \`${code}\` | ${status} | ${retryable ? "yes" : "no"} | ${text} |`,
);
const page = [
  "# Errors",
  "",
  "Every error that Hearth gives has a code from this table. Branch on the code; the text is for people and may",
  "be more precise than the one here. Retryable means that the same request may succeed later.",
  "",
  "| code | HTTP status | retryable | text |",
  "| --- | --- | --- | --- |",
  ...rows,
  "",
];
await writeFile(resolve(import.meta.dirname, "../docs/errors.md"), page.join("\n"));
