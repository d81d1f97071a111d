/**
 * What the kernel has of one node's machines: its slots, the members of its firewall's sets, the routes to its
 * guests, and namespaces of its name. Read to be compared with a ledger, so nothing here filters by what ought to
 * be there.
 */
import { execFile } from "node:child_process";
import { statSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { dirname } from "node:path";
import { promisify } from "node:util";
import { HearthError } from "@hearth/errors";
import { formatIpv6, parseIpv6 } from "./address-plan.ts";
import { nameSets } from "./egress-names.ts";
import { egressSetNames, lastOfBlock } from "./egress-plan.ts";
import type { FirewallElement } from "./firewall-plan.ts";
import { firewallTable } from "./firewall-plan.ts";
import { namespacePath, slotPrefix } from "./slot-plan.ts";

export interface NetworkInventory {
  /** The host's interfaces to slots. */
  readonly interfaces: readonly string[];
  readonly namespaces: readonly { readonly name: string; readonly inode: number }[];
  /** Of machines; the sets of the node itself are not read. Undefined when the node has no table. */
  readonly elements: readonly FirewallElement[] | undefined;
  /** `<destination> dev <interface>` */
  readonly routes: readonly string[];
}

const run = promisify(execFile);
const limitMs = 10_000;
const environment = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" };
const machineSets: ReadonlySet<string> = new Set([
  ...["guest_ifaces", "guests_v6", "guests_v4"],
  ...egressSetNames,
  ...nameSets,
]);

/** @throws HearthError `host_requirement_missing`, `internal` when the kernel cannot be asked */
export async function readNetworkInventory(node: string): Promise<NetworkInventory> {
  const prefix = slotPrefix(node);
  const [links, namespaces, routes, ruleset] = await Promise.all([
    read("ip", ["-j", "link", "show"]),
    readdir(dirname(namespacePath("any"))).catch(() => []),
    read("ip", ["-6", "-j", "route", "show", "table", "main"]),
    read("nft", ["-j", "list", "tables"]).then(async (tables) => {
      const has = parse<NftList>(tables).nftables?.some(({ table }) => table?.name === firewallTable(node));
      return has === true
        ? await read("nft", ["-j", "list", "table", "inet", firewallTable(node)])
        : undefined;
    }),
  ]);
  return {
    interfaces: parse<{ ifname: string }[]>(links, [])
      .map(({ ifname }) => ifname)
      .filter((name) => name.startsWith(prefix)),
    namespaces: namespaces.filter((name) => name.startsWith(prefix)).map(inodeOf),
    elements: ruleset === undefined ? undefined : elementsOf(parse<NftList>(ruleset)),
    routes: parse<{ dst: string; dev?: string }[]>(routes, [])
      .filter(({ dst, dev }) => dev?.startsWith(prefix) === true && !/^(fe80|ff00|multicast)/.test(dst))
      .map(({ dst, dev }) => `${dst.includes("/") ? dst : `${dst}/128`} dev ${dev}`),
  };
}

export interface NftList {
  readonly nftables?: readonly {
    readonly table?: { readonly name: string };
    readonly set?: { readonly name: string; readonly elem?: readonly NftElement[] };
  }[];
}
type NftPart =
  | string
  | number
  | { readonly range: readonly [string | number, string | number] }
  | { readonly prefix: { readonly addr: string; readonly len: number } };
type NftKey = NftPart | { readonly concat: readonly NftPart[] };
/** What expires says so around it. */
type NftElement = NftKey | { readonly elem: { readonly val: NftKey; readonly expires?: number } };

/** What /proc/<pid>/ns/net names for a process in it; 0 for a file that no namespace is mounted on any more. */
function inodeOf(name: string): { name: string; inode: number } {
  return { name, inode: statSync(namespacePath(name), { throwIfNoEntry: false })?.ino ?? 0 };
}

/** A member, and for how many seconds it will be there yet; undefined for one that stays. */
interface ListedElement extends FirewallElement {
  readonly expiresSeconds: number | undefined;
}

const elementsOf = (list: NftList): FirewallElement[] =>
  listedElements(list).map(({ set, value }) => ({ set, value }));

/** As `planSlot` and `nameElements` write them, so that both sides compare as text. */
export function listedElements({ nftables = [] }: NftList): ListedElement[] {
  return nftables.flatMap(({ set }) => {
    if (set === undefined || !machineSets.has(set.name)) return [];
    const isByAddress = (nameSets as readonly string[]).includes(set.name);
    return (set.elem ?? []).map((element) => {
      const isTimed = typeof element === "object" && "elem" in element;
      const key = isTimed ? element.elem.val : element;
      const parts = typeof key === "object" && "concat" in key ? key.concat : [key];
      const words = parts.map((part, index) => (index === 0 && !isByAddress ? `"${part}"` : textOf(part)));
      return {
        ...{ set: set.name as FirewallElement["set"], value: words.join(" . ") },
        expiresSeconds: isTimed ? element.elem.expires : undefined,
      };
    });
  });
}

function textOf(part: NftPart): string {
  if (typeof part !== "object") return plain(part);
  if ("range" in part) return part.range.map(plain).join("-");
  const { addr, len } = part.prefix;
  return `${plain(addr)}-${lastOfBlock(addr, len)}`;
}

/** nft ends some addresses of IPv6 in one of IPv4. */
const plain = (word: string | number): string =>
  typeof word === "string" && word.includes(":") ? formatIpv6(parseIpv6(word)) : String(word);

function parse<T>(text: string, empty = {} as T): T {
  return text.trim() === "" ? empty : (JSON.parse(text) as T);
}

async function read(program: string, args: readonly string[]): Promise<string> {
  try {
    return (await run(program, args, { env: environment, timeout: limitMs, maxBuffer: 64 << 20 })).stdout;
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    throw new HearthError(missing ? "host_requirement_missing" : "internal", { details: { program }, cause });
  }
}
