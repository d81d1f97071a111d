/**
 * Who calls: the credentials of one request, each with its scope. A request may bring several tokens, as clients of
 * the field do; it may do what any one of them permits, and never what only two of them together would.
 */
import type { TokenScope, TokenVerb } from "@hearth/machine";
import type { ClusterView, StoredApp } from "../state/cluster-view.ts";
import type { MachineSummary } from "../state/machine-index.ts";
import { type AppRef, describeScope, holdsApp, permitsMachine } from "./token-scope.ts";

export type Credential = OperatorCredential | TokenCredential;

export interface OperatorCredential {
  readonly kind: "operator";
  /** The node whose operator it is. */
  readonly nodeId: string;
  readonly sha256: string;
  readonly scope: TokenScope;
}

export interface TokenCredential {
  readonly kind: "token";
  /** sha256 of the token's id, in hex. */
  readonly hash: string;
  readonly chain: readonly string[];
  readonly kid: string;
  readonly expiresAtMs: number;
  readonly scope: TokenScope;
}

export class Caller {
  readonly credentials: readonly Credential[];

  constructor(credentials: readonly Credential[]) {
    this.credentials = credentials;
  }

  may(verb: TokenVerb, holds: (scope: TokenScope) => boolean = () => true): boolean {
    return this.credentials.some(({ scope }) => scope.verbs.includes(verb) && holds(scope));
  }

  /** Whether there is such an app as far as this caller is told. */
  seesApp(view: ClusterView, app: AppRef): boolean {
    return this.credentials.some(
      ({ scope }) =>
        holdsApp(scope, app) &&
        (scope.machines === undefined || scope.machines.some((id) => view.findMachine(id)?.app === app.name)),
    );
  }

  seesMachine(app: AppRef, id: string): boolean {
    return this.credentials.some(({ scope }) => permitsMachine(scope, app, id));
  }

  visibleApps(view: ClusterView): StoredApp[] {
    return view.apps().filter((app) => this.seesApp(view, app));
  }

  /** The machines of an app that this caller is told of. */
  visibleMachines(view: ClusterView, app: AppRef): MachineSummary[] {
    return view.machineSummaries(app.name).filter(({ id }) => this.seesMachine(app, id));
  }

  get scopeText(): string {
    return this.credentials.map(({ scope }) => describeScope(scope)).join(", or ");
  }
}
