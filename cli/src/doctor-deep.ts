/** The deep look of doctor: the record of every node's worker, beside what its host has. */
import type { Difference, Inspection } from "@hearth/machine";
import type { HearthClient } from "@hearth/sdk";
import type { Finding } from "./doctor-finding.ts";
import type { Environment } from "./environment.ts";
import { explain } from "./failure.ts";

export interface DeepFindings {
  readonly findings: readonly Finding[];
  readonly inspections: readonly Inspection[] | undefined;
}

/** A node that does not answer is a finding; so is each difference that nothing is about to mend. */
export async function inspectNodes(
  environment: Environment,
  client: () => HearthClient,
): Promise<DeepFindings> {
  try {
    const nodes = await client().nodes();
    const looks = await Promise.allSettled(nodes.map(({ node_id }) => client().inspectNode(node_id)));
    const findings = looks.flatMap((look, index): Finding[] => {
      if (look.status === "fulfilled") return findingsOf(look.value);
      const { message, code } = explain(look.reason, environment);
      return [
        broken(`Node ${nodes[index]?.node_id} could not be compared with its host: ${message} (${code})`),
      ];
    });
    return {
      findings,
      inspections: looks.flatMap((look) => (look.status === "fulfilled" ? [look.value] : [])),
    };
  } catch (error) {
    const { message, code } = explain(error, environment);
    return {
      findings: [broken(`No node could be compared with its host: ${message} (${code})`)],
      inspections: [],
    };
  }
}

const broken = (message: string): Finding => ({ name: "inspection", level: "broken", message });

function findingsOf({ node_id, machines, differences }: Inspection): Finding[] {
  if (differences.length === 0) {
    const message = `Node ${node_id}: the record of ${machines} machines and the host agree.`;
    return [{ name: "inspection", level: "ok", message }];
  }
  return differences.map((one) => ({
    name: "inspection",
    level: one.pending ? "warning" : "broken",
    message: `Node ${node_id}: ${sentence(one)}`,
    ...(one.pending ? { advice: "Something is being done to this machine; look again in a moment." } : {}),
  }));
}

const sentence = ({ kind, key, machine_id, message }: Difference): string =>
  `${message} (${kind} ${key}, ${machine_id === null ? "of no known machine" : `of machine ${machine_id}`})`;
