/**
 * The certificate of a custom domain: the uploaded one while it is good, else the one that an authority has issued, else,
 * where nobody asks one, that of this host. One that has expired is shown as it is when there is no better: then the
 * client says what is wrong, with the date.
 */
import type { Replica } from "@hearth/cluster";
import {
  type AcmeFact,
  factKeys,
  type HostnameFact,
  keyPurposes,
  type StoredCertificate,
} from "@hearth/machine";
import type { KeyAndCertificate } from "./local-ca.ts";

export type DomainCertificate =
  | { readonly kind: "own"; readonly pair: KeyAndCertificate }
  /** Of this host. */
  | { readonly kind: "local" }
  /** It has none yet, or its key cannot be opened here. */
  | { readonly kind: "missing" };

export interface DomainCertificateDeps {
  readonly replica: Pick<Replica, "get">;
  readonly openKey: (purpose: string, sealed: string) => string | undefined;
  readonly nowMs: () => number;
}

export function domainCertificate(claim: HostnameFact, deps: DomainCertificateDeps): DomainCertificate {
  const { hostname, custom, acme_requested } = claim;
  const acme = deps.replica.get(factKeys.acme(hostname))?.value as AcmeFact | undefined;
  const candidates = [
    ...(custom === undefined ? [] : [{ certificate: custom, purpose: keyPurposes.custom(hostname) }]),
    ...(acme?.certificate === undefined
      ? []
      : [{ certificate: acme.certificate, purpose: keyPurposes.order(hostname) }]),
  ];
  const nowMs = deps.nowMs();
  const good = candidates.find(({ certificate }) => nowMs < certificate.not_after_ms);
  const latest = candidates.toSorted(
    (one, other) => other.certificate.not_after_ms - one.certificate.not_after_ms,
  );
  const chosen = good ?? latest[0];
  if (chosen !== undefined) return opened(chosen.certificate, chosen.purpose, deps);
  return acme === undefined && acme_requested ? { kind: "local" } : { kind: "missing" };
}

function opened(
  { sealed_key, chain, not_after_ms }: StoredCertificate,
  purpose: string,
  { openKey }: DomainCertificateDeps,
): DomainCertificate {
  const key = openKey(purpose, sealed_key);
  if (key === undefined) return { kind: "missing" };
  return { kind: "own", pair: { key, cert: chain, expiresMs: not_after_ms } };
}
