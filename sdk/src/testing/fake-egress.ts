/** What the machines of an app of the fake API may send: kept and shown, and heeded by nobody. */
import { HearthError } from "@hearth/errors";
import { type EgressPolicyInput, parseEgressPolicy } from "@hearth/machine";
import type { FakeState } from "./fake-api.ts";

type Known = Pick<FakeState, "apps" | "egress">;

export function fakeEgress(state: Known, app: string): EgressPolicyInput {
  if (!state.apps.has(app)) throw new HearthError("app_not_found");
  return state.egress.get(app) ?? {};
}

export function setFakeEgress(state: Known, app: string, policy: EgressPolicyInput): EgressPolicyInput {
  fakeEgress(state, app);
  parseEgressPolicy(policy);
  state.egress.set(app, policy);
  return policy;
}
