/**
 * Changes members of egress sets that are there already. The members of two policies may overlap, and a set of intervals
 * is not exact then: the kernel (6.1 to 6.18) refuses some that overlap and takes others, and deletes what holds the
 * first address of the one that it was told of. So what is to go is not added first, as it is for other sets, to be
 * certain that it can be deleted. The change is made as if the host had what it should, and what is to be comes last, so
 * that it is there in any case; where the host refuses that, it is asked what it has.
 */
import { HearthError } from "@hearth/errors";
import { type NameElement, nameSets } from "./egress-names.ts";
import { type EgressElement, egressSetNames, type NameSet } from "./egress-plan.ts";
import {
  type FirewallElement,
  firewallTable,
  renderElementRemoval,
  renderElements,
} from "./firewall-plan.ts";
import type { HostCommands } from "./host-commands.ts";
import { listedElements, type NftList } from "./inventory.ts";
import type { SlotTeardown } from "./slot-plan.ts";

export interface EgressChange {
  readonly node: string;
  readonly slot: string;
  readonly from: readonly EgressElement[];
  readonly to: readonly EgressElement[];
  /** What is there may be of others than these two, too. */
  readonly isUnsure?: boolean;
}

const ofEgress: ReadonlySet<string> = new Set(egressSetNames);
const text = ({ set, value }: FirewallElement): string => `${set} ${value}`;

/** Those of `some` that are not in `others`. */
function without<T extends FirewallElement>(some: readonly T[], others: readonly FirewallElement[]): T[] {
  const known = new Set(others.map(text));
  return some.filter((one) => !known.has(text(one)));
}

/** Removals first: what comes may overlap what goes. */
const renderChange = ({ node, from, to }: EgressChange): string[] => [
  ...renderDeletion(node, without(from, to)),
  ...renderElements(node, to),
];

export async function exchangeEgress(
  commands: HostCommands,
  change: EgressChange,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (change.isUnsure !== true) {
    try {
      return await commands.quickNft(renderChange(change), signal);
    } catch (error) {
      if (isCut(error, signal)) throw error;
    }
  }
  const from = await egressOf(commands, change, signal);
  await commands.quickNft(renderChange({ ...change, from }), signal);
}

/** Takes the members of a slot out of the sets, whichever of them are there. */
export async function removeMembers(
  commands: HostCommands,
  { node, slot, elements, egressUnsure = false }: SlotTeardown,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (!egressUnsure) return await commands.quickNft(renderElementRemoval(node, elements), signal);
  const others = elements.filter(({ set }) => !ofEgress.has(set));
  const egress = await egressOf(commands, { node, slot }, signal);
  await commands.quickNft([...renderElementRemoval(node, others), ...renderDeletion(node, egress)], signal);
}

/** One that is there already begins its time anew, which adding it does not do. */
export function renderNames(node: string, elements: readonly NameElement[]): string[] {
  const table = `inet ${firewallTable(node)}`;
  return elements.flatMap(({ set, value, seconds }) => [
    ...renderElementRemoval(node, [{ set, value }]),
    `add element ${table} ${set} { ${value} timeout ${seconds}s }`,
  ]);
}

export async function listNames(
  commands: HostCommands,
  node: string,
  signal: AbortSignal | undefined,
): Promise<NameElement[]> {
  const listed = await Promise.all(
    nameSets.map((set) => read(commands, ["list", "set", "inet", firewallTable(node), set], signal)),
  );
  return listed
    .flat()
    .map(({ set, value, expiresSeconds = 0 }) => ({ set: set as NameSet, value, seconds: expiresSeconds }));
}

async function egressOf(
  commands: HostCommands,
  { node, slot }: { readonly node: string; readonly slot: string },
  signal: AbortSignal | undefined,
): Promise<EgressElement[]> {
  const listed = await read(commands, ["list", "table", "inet", firewallTable(node)], signal);
  return listed.flatMap(({ set, value }) => {
    const isOurs = ofEgress.has(set) && (value === `"${slot}"` || value.startsWith(`"${slot}" . `));
    return isOurs ? [{ set: set as EgressElement["set"], value }] : [];
  });
}

async function read(commands: HostCommands, words: readonly string[], signal: AbortSignal | undefined) {
  const answer = await commands.must(["nft", "-j", ...words], "", signal);
  return listedElements(JSON.parse(answer) as NftList);
}

function renderDeletion(node: string, elements: readonly FirewallElement[]): string[] {
  const table = `inet ${firewallTable(node)}`;
  return elements.map(({ set, value }) => `delete element ${table} ${set} { ${value} }`);
}

/** Whoever asked does not wait any more, or the host does not answer: asking again is no way out. */
const isCut = (error: unknown, signal: AbortSignal | undefined): boolean =>
  signal?.aborted === true || HearthError.from(error).code === "deadline_exceeded";
