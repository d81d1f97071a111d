/** `hearth doctor`: what works on this host, what does not, and what to do about it. */
import type { AgentStatus } from "@hearth/host-agent";
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { checkApi, checkHost, checkNode } from "./doctor-checks.ts";
import { inspectNodes } from "./doctor-deep.ts";
import type { Finding } from "./doctor-finding.ts";
import { exitCode } from "./failure.ts";
import { jsonOption } from "./options.ts";
import { printJson, printLine } from "./output.ts";

export function define(command: Command, context: Context): void {
  command
    .addOption(jsonOption())
    .option("--deep", "compare the record of every node with what is on its host")
    .addHelpText(
      "after",
      "\nThe exit code is 1 when something is broken. With HEARTH_API_URL only that API is looked at.",
    )
    .action(async ({ json = false, deep = false }: { readonly json?: boolean; readonly deep?: boolean }) => {
      const { environment } = context;
      const isHere = !environment.isApiChosen;
      const node = isHere ? await checkNode(environment) : { findings: [], status: undefined };
      const [host, api, inspected] = await Promise.all([
        isHere ? checkHost(environment) : [],
        checkApi(environment, context.client),
        deep ? inspectNodes(environment, context.client) : { findings: [], inspections: undefined },
      ]);
      const findings = [...node.findings, ...api, ...host, ...inspected.findings];
      const healthy = findings.every(({ level }) => level !== "broken");
      const { inspections } = inspected;
      if (json) printJson({ healthy, findings, node: node.status ?? null, inspections });
      else show(findings, node.status, healthy);
      if (!healthy) context.exitCode = exitCode.failed;
    });
}

const marks = { ok: "ok    ", warning: "warn  ", broken: "BROKEN" } as const;

function show(findings: readonly Finding[], status: AgentStatus | undefined, healthy: boolean): void {
  for (const { level, message, advice } of findings) {
    printLine(`${marks[level]} ${message}`);
    if (advice !== undefined) printLine(`       ${advice}`);
  }
  if (status !== undefined) {
    const { node_id, region, api_url, token_path, data_dir } = status;
    printLine(`\nnode ${node_id} in ${region}, API ${api_url}, token ${token_path}, data ${data_dir}`);
  }
  if (!healthy) printLine("\nSomething is broken; begin with the first line that says so.");
}
