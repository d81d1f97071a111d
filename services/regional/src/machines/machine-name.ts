/**
 * Names of machines within an app. A name is held by a fact that is written by compare-and-set, so two API
 * processes cannot give it twice. The entry has no life of its own: when its machine is destroyed, or was
 * never heard of and had time to be, the next one who wants the name takes it.
 */
import type { FactStore } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { factKeys, type MachineId, type MachineNameFact } from "@hearth/machine";
import type { ClusterView, Revised } from "../state/cluster-view.ts";
import { writeFact } from "../state/write-fact.ts";

export interface MachineNameDeps {
  readonly view: ClusterView;
  readonly facts: () => FactStore;
  readonly nowMs: () => number;
}

export interface HeldName extends Revised<MachineNameFact> {
  readonly app: string;
  readonly name: string;
}

/** @throws HearthError `name_taken` */
export async function takeName(
  deps: MachineNameDeps,
  app: string,
  name: string,
  machineId: MachineId,
): Promise<HeldName> {
  const held = deps.view.machineName(app, name);
  if (held !== undefined && !isFree(deps.view, factKeys.machineName(app, name), held.value, machineId))
    throw nameTaken(name, held.value);
  const value: MachineNameFact = { machine_id: machineId, taken_at_ms: deps.nowMs() };
  try {
    const key = factKeys.machineName(app, name);
    const revision = await writeFact(deps, { key, value, expectedRevision: held?.revision ?? 0 });
    return { app, name, value, revision };
  } catch (thrown) {
    const error = HearthError.from(thrown);
    throw error.code === "conflict" ? nameTaken(name) : error;
  }
}

/** After a create that left nothing behind. Somebody else may have the name by now; that is theirs. */
export async function releaseName(deps: MachineNameDeps, held: HeldName): Promise<void> {
  const key = factKeys.machineName(held.app, held.name);
  const write = { key, value: undefined, expectedRevision: held.revision };
  await writeFact(deps, write).catch((thrown: unknown) => {
    if (HearthError.from(thrown).code !== "conflict") throw thrown;
  });
}

function isFree(view: ClusterView, key: string, held: MachineNameFact, machineId: MachineId): boolean {
  if (held.machine_id === machineId) return true;
  const holder = view.findMachine(held.machine_id);
  return holder === undefined ? !view.pending.isPending(key) : holder.record.state === "destroyed";
}

// Clients match on the words "Name has already been taken".
const nameTaken = (name: string, held?: MachineNameFact): HearthError =>
  new HearthError("name_taken", {
    message: `Name has already been taken: the app has a machine named "${name}"; choose another name.`,
    details: { name, ...(held === undefined ? {} : { machine_id: held.machine_id }) },
  });

const adjectives =
  "amber bold brisk calm clear crisp dusky early fair fleet gentle golden hardy keen lively lucid mellow misty noble placid proud quick quiet rapid silent snowy solar steady sunny swift tidal vivid warm wild".split(
    " ",
  );
const nouns =
  "ash birch brook cedar cliff cloud coal comet creek dawn delta dune ember fern field fjord flame forge frost glade grove harbor hill lake leaf meadow moon oak peak pine pond rain reef ridge river sky spark star stone tide vale wave wind".split(
    " ",
  );

/** A name that people can say, with a number that makes a second one unlikely. */
export function generateName(randomBytes: (length: number) => Uint8Array): string {
  const [a = 0, b = 0, c = 0, d = 0] = randomBytes(4);
  const number = (((c << 8) | d) % 9000) + 1000;
  return `${adjectives[a % adjectives.length]}-${nouns[b % nouns.length]}-${number}`;
}
