/** What an operator says of a node for placement: its labels, and how often its processors may be promised. */
import { HearthError } from "@hearth/errors";
import { NodeLabels } from "@hearth/machine";
import Value from "typebox/value";

const invalid = (field: string, reason: string): HearthError =>
  new HearthError("invalid_argument", { message: `${field}: ${reason}.`, details: { field } });

/**
 * @param text `name=value` with commas between them
 * @throws HearthError `invalid_argument` naming the setting
 */
export function readLabels(text: string | undefined): NodeLabels {
  const labels: Record<string, string> = {};
  for (const pair of (text ?? "").split(",").filter((each) => each.trim() !== "")) {
    const [name = "", ...value] = pair.trim().split("=");
    if (value.length === 0) throw invalid("HEARTH_LABELS", `"${pair.trim()}" has no =; write name=value`);
    labels[name] = value.join("=");
  }
  if (Value.Check(NodeLabels, labels)) return labels;
  throw invalid(
    "HEARTH_LABELS",
    "a label is name=value of letters, digits and . _ - (names also /), 63 long, and there are 32 at most",
  );
}

export const labelsText = (labels: NodeLabels): string =>
  Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(",");

/** @throws HearthError `invalid_argument` naming the setting */
export function readCpuOvercommit(text: string | undefined): number | undefined {
  if (text === undefined || text === "") return undefined;
  const ratio = Number(text);
  if (/^\d+$/.test(text) && ratio >= 1 && ratio <= 1024) return ratio;
  throw invalid("HEARTH_CPU_OVERCOMMIT", `"${text}" is no whole number from 1 to 1024`);
}
