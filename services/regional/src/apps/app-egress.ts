/** What the machines of an app may send, where they do not say so themselves, as part of the app's fact. */
import { HearthError } from "@hearth/errors";
import { type EgressPolicyInput, factKeys, parseEgressPolicy } from "@hearth/machine";
import type { ApiContext } from "../api-context.ts";
import type { StoredApp } from "../state/cluster-view.ts";
import { writeFact } from "../state/write-fact.ts";

const attempts = 5;

/** What is shown of it; undefined for an app that says nothing. */
export function shownEgress({ egress }: StoredApp): EgressPolicyInput | undefined {
  return egress === undefined || Object.keys(egress.policy).length === 0 ? undefined : egress.policy;
}

/** @throws HearthError `invalid_argument` naming the entry */
export function newEgress(
  context: Pick<ApiContext, "nowMs">,
  policy: EgressPolicyInput,
  before: StoredApp["egress"],
): NonNullable<StoredApp["egress"]> {
  parseEgressPolicy(policy);
  // The time, so that an app that was deleted and made again under its name does not begin at the bottom.
  return { policy, version: Math.max(context.nowMs(), (before?.version ?? 0) + 1) };
}

/**
 * Its workers hear of it as of every fact, and change what runs at once. `{}` takes it back.
 * @throws HearthError `invalid_argument`, `app_not_found`, `conflict` when others go on changing the app meanwhile
 */
export async function setAppEgress(
  context: ApiContext,
  name: string,
  policy: EgressPolicyInput,
): Promise<StoredApp> {
  for (let attempt = 1; ; attempt += 1) {
    const found = context.view.findApp(name);
    if (found === undefined) throw context.view.missingApp(name);
    const value = { ...found.value, egress: newEgress(context, policy, found.value.egress) };
    try {
      await writeFact(context, { key: factKeys.app(name), value, expectedRevision: found.revision });
      return value;
    } catch (thrown) {
      if (HearthError.from(thrown).code !== "conflict" || attempt >= attempts) throw thrown;
    }
  }
}
