/** Lists of machines, of an app or of an organisation, from the replica. */
import type { MachineRecord } from "@hearth/machine";
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import { opt } from "../http/schemas.ts";
import type { MachineSummary } from "../state/machine-index.ts";
import type { Caller } from "../tokens/caller.ts";

const metadataPrefix = "metadata.";

const filters = {
  include_deleted: opt(Type.Boolean()),
  region: opt(Type.String()),
  state: opt(Type.String({ description: "States, with commas between them." })),
  summary: opt(Type.Boolean({ description: "Leaves out config, checks and events." })),
};

export const ListQuery = Type.Object(filters, {
  patternProperties: {
    "^metadata\\..+$": Type.String({ description: "Only machines whose metadata has this value." }),
  },
  additionalProperties: false,
});

export type ListFilter = Type.Static<typeof ListQuery>;

export function listMachines(
  { view }: Pick<ApiContext, "view">,
  caller: Caller,
  { app, filter }: { readonly app: string; readonly filter: ListFilter },
): Partial<MachineRecord>[] {
  return caller
    .visibleMachines(view, view.app(app))
    .filter((one) => isWanted(one, filter))
    .flatMap(({ id }) => view.findMachine(id) ?? [])
    .filter(({ record }) => hasMetadata(record, filter))
    .map((fact) => view.recordOf(fact))
    .map((record) => (filter.summary === true ? summary(record) : record));
}

/** What can be told without the record. */
export function isWanted({ state, region }: MachineSummary, filter: ListFilter): boolean {
  const states = filter.state ? filter.state.split(",").map((each) => each.trim()) : [];
  if (states.length > 0 && !states.includes(state)) return false;
  if (state === "destroyed" && filter.include_deleted !== true && !states.includes("destroyed")) return false;
  return !filter.region || filter.region === region;
}

const hasMetadata = ({ config: { metadata } }: MachineRecord, filter: ListFilter): boolean =>
  Object.entries(filter)
    .filter(([name]) => name.startsWith(metadataPrefix))
    .every(([name, value]) => metadata?.[name.slice(metadataPrefix.length)] === value);

function summary(record: MachineRecord): Partial<MachineRecord> {
  const {
    config: _config,
    incomplete_config: _incomplete,
    checks: _checks,
    events: _events,
    ...rest
  } = record;
  return rest;
}
