/**
 * The answer to a question about a private name, out of what one network sees: pure. A name that exists and has
 * nothing of the type asked for is answered with no record, one that does not exist with NXDOMAIN; both with the
 * SOA of its zone (RFC 2308). Names between others exist (RFC 8020).
 */
import { addressContent, type NameContent, textRecords, ttlSeconds } from "./name-content.ts";
import type { NamedMachine } from "./named-machine.ts";
import type { NetworkView } from "./network-view.ts";
import { addressOfReverse, isPartOfReverse, type Zone } from "./private-zones.ts";
import type { Query } from "./question.ts";
import { type Answer, type AnswerRecord, rdata } from "./response.ts";
import { serviceRecords } from "./service-names.ts";
import { rcodes, recordTypes as types } from "./wire.ts";

export interface NamesContext {
  readonly view: NetworkView;
  /** Of this host, to which its own machines are nearest. */
  readonly nodeId: string;
  readonly region: string;
  /** The address that all guests of the cluster ask at. */
  readonly resolverAddress: string;
  readonly apiUrls: readonly string[];
  /** Grows with what is known, for the SOA. */
  readonly serial: number;
}

/** Short, because what was asked for a moment too early is asked again. */
const negativeTtlSeconds = 1;
/** An app with more machines is answered with these. */
const maxAddresses = 1_000;

/** A name that exists for what lies below it. */
const between: NameContent = { records: [] };

export function answerPrivate(query: Query, zone: Zone, context: NamesContext): Answer {
  const content = contentOf(query, zone, context);
  const isAny = query.type === types.ANY && content !== undefined && content.records.length > 0;
  const answers = isAny ? [anyRecord] : (content?.records ?? []).filter(({ type }) => type === query.type);
  const rcode = content === undefined ? rcodes.nameError : rcodes.noError;
  if (answers.length > 0) return { rcode, answers, authority: [], additional: content?.additional ?? [] };
  const owner = { lastLabels: zone.labels };
  const soa = { ...soaRecord(context), owner, ttl: negativeTtlSeconds };
  return { rcode, answers: [], authority: [soa], additional: [] };
}

function contentOf({ labels }: Query, zone: Zone, context: NamesContext): NameContent | undefined {
  if (labels.length === zone.labels) return { records: [soaRecord(context), nsRecord] };
  if (zone.kind !== "internal") return reverseContent(labels, zone, context.view);
  const [last = "", ...before] = labels.slice(0, -1).toReversed();
  if (last.startsWith("_") || last === "ns")
    return before.length === 0 ? platformContent(last, context) : undefined;
  return context.view.hasApp(last) ? appContent(last, before.toReversed(), context) : undefined;
}

/** Names that are no app's: none begins with `_`, and `ns` is the zone's own. */
function platformContent(name: string, context: NamesContext): NameContent | undefined {
  const { view, apiUrls, resolverAddress } = context;
  if (name === "ns") return addressContent([resolverAddress]);
  if (name === "_apps") return { records: textRecords(view.apps(), ",") };
  if (name === "_instances") {
    const machines = view.apps().flatMap((app) => view.machines(app));
    return { records: textRecords(machines.map(instanceText), ";") };
  }
  if (name !== "_api") return undefined;
  const addresses = apiUrls.map((url) => new URL(url).hostname.replace(/^\[(.*)\]$/, "$1"));
  return { records: [...addressContent(addresses).records, ...textRecords(apiUrls, ",")] };
}

const instanceText = ({ id, app, address, region }: NamedMachine): string =>
  `instance=${id},app=${app},ip=${address},region=${region}`;

/** @param path what stands before the app, as it is written */
function appContent(app: string, path: readonly string[], context: NamesContext): NameContent | undefined {
  const { view } = context;
  const [first = "", second, third] = path;
  if (path.length === 0) return machinesContent(view.machines(app));
  if (path.length === 1) {
    if (["vm", "process", "of", "_tcp", "_udp"].includes(first)) return between;
    return someMachines(view.machines(app).filter(({ region }) => region === first));
  }
  if (path.length === 2 && second === "vm") {
    const machine = view.machine(app, first);
    return machine === undefined ? undefined : machinesContent([machine]);
  }
  if (path.length === 2 && second === "process")
    return someMachines(view.machines(app).filter(({ processGroup }) => processGroup === first));
  if (path.length === 2 && (second === "_tcp" || second === "_udp"))
    return serviceRecords(view.machines(app), first, second === "_tcp" ? "tcp" : "udp");
  if (path.length === 2 && first === "nearest" && second === "of") return between;
  const [, count] = /^top([1-9]\d{0,3})$/.exec(first) ?? [];
  if (path.length !== 3 || count === undefined || second !== "nearest" || third !== "of") return undefined;
  return machinesContent(nearestFirst(view.machines(app), context).slice(0, Number(count)));
}

/** On this host, then in this region, then elsewhere. */
function nearestFirst(machines: readonly NamedMachine[], { nodeId, region }: NamesContext): NamedMachine[] {
  const distance = (machine: NamedMachine): number =>
    machine.nodeId === nodeId ? 0 : machine.region === region ? 1 : 2;
  return machines.toSorted((a, b) => distance(a) - distance(b));
}

const someMachines = (machines: readonly NamedMachine[]): NameContent | undefined =>
  machines.length === 0 ? undefined : machinesContent(machines);

const machinesContent = (machines: readonly NamedMachine[]): NameContent =>
  addressContent(machines.slice(0, maxAddresses).map(({ address }) => address));

function reverseContent(labels: readonly string[], zone: Zone, view: NetworkView): NameContent | undefined {
  if (isPartOfReverse(labels, zone)) return between;
  const address = addressOfReverse(labels, zone);
  const machine = address === undefined ? undefined : view.at(address);
  if (machine === undefined) return undefined;
  const name = `${machine.id}.vm.${machine.app}.internal`;
  return { records: [{ owner: "question", type: types.PTR, ttl: ttlSeconds, rdata: rdata("PTR", name) }] };
}

const nsRecord: AnswerRecord = {
  ...({ owner: "question", type: types.NS, ttl: ttlSeconds } as const),
  rdata: rdata("NS", "ns.internal"),
};

const soaRecord = ({ serial }: NamesContext): AnswerRecord => ({
  ...({ owner: "question", type: types.SOA, ttl: ttlSeconds } as const),
  rdata: rdata("SOA", {
    ...{ mname: "ns.internal", rname: "hostmaster.internal", serial: serial >>> 0 },
    ...{ refresh: 60, retry: 60, expire: 60, minimum: negativeTtlSeconds },
  }),
});

/** That there is more than one should ask for (RFC 8482). */
const anyRecord: AnswerRecord = {
  ...({ owner: "question", type: types.HINFO, ttl: ttlSeconds } as const),
  rdata: rdata("HINFO", { cpu: "RFC8482", os: "" }),
};
