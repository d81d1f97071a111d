/** What the API of a host has for custom domains: the secret, the keeper where there is an authority, and a resolver. */
import type { Bus, FactStore } from "@hearth/cluster";
import {
  type ChallengeAnswer,
  type ChallengeQuestion,
  factPrefixes,
  type NodeKeyFact,
} from "@hearth/machine";
import type { Logger } from "@hearth/telemetry";
import type { ClusterView } from "../state/cluster-view.ts";
import type { AcmeSettings } from "./acme-account.ts";
import { CertificateKeeper, type CertificateKeeperDeps } from "./certificate-keeper.ts";
import { CertificateSecret } from "./certificate-secret.ts";
import { dnsLookUp, type LookUp } from "./domain-check.ts";

export interface CertificateSettings {
  /** Of the host's own key, to which the secret of the region is sealed. */
  readonly sealSeedPath?: string | undefined;
  /** Of the region's front doors. */
  readonly domain?: string | undefined;
  readonly acme?: AcmeSettings | undefined;
  /** Asked for the records of custom domains: `address` or `address#port`. */
  readonly resolvers?: readonly string[] | undefined;
  readonly limits?: CertificateKeeperDeps["limits"];
}

export interface CertificatesDeps {
  readonly bus: () => Bus;
  readonly facts: () => FactStore;
  readonly view: ClusterView;
  readonly nodeId: string;
  readonly nowMs: () => number;
  readonly logger: Logger;
  readonly settings: CertificateSettings;
}

/** As the front door has it. */
const defaultDomain = "hearth.localhost";
const shownLimitMs = 10_000;

export class Certificates {
  readonly domain: string;
  readonly hasAcme: boolean;
  readonly secret: CertificateSecret;
  readonly lookUp: LookUp;
  readonly #keeper: CertificateKeeper | undefined;

  constructor(deps: CertificatesDeps) {
    const { settings, view } = deps;
    this.domain = settings.domain ?? defaultDomain;
    this.hasAcme = settings.acme !== undefined;
    this.lookUp = dnsLookUp(settings.resolvers ?? []);
    this.secret = new CertificateSecret({
      ...deps,
      sealSeedPath: settings.sealSeedPath,
      replica: view.replica,
    });
    this.#keeper =
      settings.acme === undefined
        ? undefined
        : new CertificateKeeper({
            ...deps,
            settings: settings.acme,
            secret: this.secret,
            shown: (hostname, token, signal) => untilShown(deps, { hostname, token }, signal),
            ...(settings.limits === undefined ? {} : { limits: settings.limits }),
          });
  }

  start(): void {
    this.secret.start();
    this.#keeper?.start();
  }

  async stop(): Promise<void> {
    await this.#keeper?.stop();
    await this.secret.stop();
  }
}

/** Asks the front door of each host. One that does not answer takes no connection of the authority either. */
async function untilShown(
  { bus, view, logger }: CertificatesDeps,
  question: ChallengeQuestion,
  signal: AbortSignal,
): Promise<void> {
  const nodes = view.replica.list(factPrefixes.nodeKey).map(({ value }) => value as NodeKeyFact);
  const ask = async ({ node_id }: NodeKeyFact): Promise<void> => {
    const options = { timeoutMs: shownLimitMs, signal };
    try {
      const answer = (await bus().request(
        node_id,
        "ingress",
        "challenge",
        question,
        options,
      )) as ChallengeAnswer;
      if (answer.shown) return;
    } catch (error) {
      if (signal.aborted) throw error;
    }
    logger.warn({ node_id, hostname: question.hostname }, "a front door does not show a challenge");
  };
  await Promise.all(nodes.filter(({ node_id }) => !view.region.isRemoved(node_id)).map(ask));
}
