/** Where a custom domain is to lead: the hosts of the region, and wherever the app's own name leads. */
import { isIPv4, isIPv6 } from "node:net";
import { factPrefixes, type HostnameFact, type NodeKeyFact } from "@hearth/machine";
import type { ApiContext } from "../api-context.ts";
import { ownershipValues } from "./certificate-answer.ts";
import {
  type DomainRecords,
  type DomainState,
  type Expected,
  judgeDomain,
  lookUpDomain,
} from "./domain-check.ts";

const ownName = ({ certificates }: ApiContext, { app }: HostnameFact): string =>
  `${app}.${certificates.domain}`;

function hostAddresses({ view }: ApiContext): string[] {
  const nodes = view.replica.list(factPrefixes.nodeKey).map(({ value }) => value as NodeKeyFact);
  return nodes.filter(({ node_id }) => !view.region.isRemoved(node_id)).map(({ address }) => address);
}

export function requirementsOf(context: ApiContext, claim: HostnameFact) {
  const addresses = hostAddresses(context);
  return { a: addresses.filter(isIPv4), aaaa: addresses.filter(isIPv6), cname: ownName(context, claim) };
}

/** As it is now. */
export async function expectedOf(context: ApiContext, claim: HostnameFact): Promise<Expected> {
  const cname = ownName(context, claim);
  const { resolved } = await lookUpDomain(cname, context.certificates.lookUp);
  return { cname, addresses: new Set([...hostAddresses(context), ...resolved]) };
}

export async function stateOf(
  context: ApiContext,
  claim: HostnameFact,
  expected: Expected,
): Promise<{ readonly records: DomainRecords; readonly state: DomainState }> {
  const records = await lookUpDomain(claim.hostname, context.certificates.lookUp);
  return { records, state: judgeDomain(records, expected, Object.values(ownershipValues(claim))) };
}
