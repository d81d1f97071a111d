/** Certificates as the Machines API shows them: shapes, and how they are made of facts. */
import type { AcmeFact, HostnameFact, StoredCertificate } from "@hearth/machine";
import Type from "typebox";
import { opt } from "../http/schemas.ts";
import { type DomainRecords, type DomainState, ownershipName } from "./domain-check.ts";

const Time = Type.String({ format: "date-time" });

export const CertificateSummary = Type.Object({
  hostname: Type.String(),
  status: Type.Enum(["active", "pending_validation", "pending_ownership"]),
  configured: Type.Boolean({ description: "It has a certificate that is good now." }),
  acme_requested: Type.Boolean(),
  acme_dns_configured: Type.Boolean(),
  acme_http_configured: Type.Boolean(),
  acme_alpn_configured: Type.Boolean(),
  ownership_txt_configured: Type.Boolean(),
  has_custom_certificate: Type.Boolean(),
  has_fly_certificate: Type.Boolean({ description: "One that Hearth had issued." }),
  dns_provider: Type.String(),
  created_at: Time,
  updated_at: Time,
});

const Entry = Type.Object({
  source: Type.String({
    description: "`fly`: issued by ACME. `custom`: uploaded. `local`: each host's own.",
  }),
  status: Type.String({ description: "`active`, `expired` or `pending`." }),
  created_at: opt(Time),
  expires_at: opt(Time),
  issuer: opt(Type.String()),
  issued: Type.Array(
    Type.Object({ type: Type.String(), expires_at: Time, certificate_authority: Type.String() }),
  ),
});

export const CertificateDetail = Type.Object({
  hostname: Type.String(),
  configured: Type.Boolean(),
  acme_requested: Type.Boolean(),
  status: Type.Enum(["active", "pending_validation", "pending_ownership"]),
  dns_provider: Type.String(),
  rate_limited_until: opt(Time),
  next_attempt_at: opt(Time),
  attempts_last_hour: Type.Integer(),
  certificates: Type.Array(Entry),
  validation: Type.Object({
    dns_configured: Type.Boolean(),
    alpn_configured: Type.Boolean(),
    http_configured: Type.Boolean(),
    ownership_txt_configured: Type.Boolean(),
  }),
  dns_requirements: Type.Object({
    a: Type.Array(Type.String()),
    aaaa: Type.Array(Type.String()),
    cname: Type.String(),
    acme_challenge: Type.Object({ name: Type.String(), target: Type.String() }),
    ownership: Type.Object({ name: Type.String(), app_value: Type.String(), org_value: Type.String() }),
  }),
  dns_records: opt(
    Type.Object({
      a: Type.Array(Type.String()),
      aaaa: Type.Array(Type.String()),
      cname: Type.Array(Type.String()),
      resolved_addresses: Type.Array(Type.String()),
      soa: opt(Type.String()),
      acme_challenge_cname: opt(Type.String()),
      ownership_txt: opt(Type.String()),
    }),
  ),
  validation_errors: Type.Array(
    Type.Object({
      code: Type.String(),
      message: Type.String(),
      remediation: Type.String(),
      timestamp: Time,
    }),
  ),
});
export type CertificateDetail = Type.Static<typeof CertificateDetail>;

export interface Told {
  readonly claim: HostnameFact;
  readonly acme: AcmeFact | undefined;
  /** Whether the API of this host has an authority. */
  readonly hasAcme: boolean;
  /** No authority would sign for the name. */
  readonly isReserved: boolean;
  readonly nowMs: number;
  readonly requirements: { readonly a: string[]; readonly aaaa: string[]; readonly cname: string };
  /** As just looked up. */
  readonly checked?: { readonly records: DomainRecords; readonly state: DomainState };
}

export const ownershipValues = ({ app_id, org_slug }: HostnameFact) => ({
  app_value: `app-${app_id}`,
  org_value: `org-${org_slug}`,
});

const timeOf = (ms: number): string => new Date(ms).toISOString();

const entryOf = (source: string, certificate: StoredCertificate, nowMs: number) => ({
  source,
  status: nowMs < certificate.not_after_ms ? "active" : "expired",
  created_at: timeOf(certificate.created_at_ms),
  expires_at: timeOf(certificate.not_after_ms),
  issuer: certificate.issuer,
  issued: [
    {
      type: certificate.key_type,
      expires_at: timeOf(certificate.not_after_ms),
      certificate_authority: certificate.issuer,
    },
  ],
});

function entriesOf({ claim, acme, hasAcme, isReserved, nowMs }: Told) {
  const { custom, acme_requested } = claim;
  const issued = acme?.certificate;
  const entries = [
    ...(custom === undefined ? [] : [entryOf("custom", custom, nowMs)]),
    ...(issued === undefined ? [] : [entryOf("fly", issued, nowMs)]),
  ];
  if (issued !== undefined || !acme_requested) return entries;
  // A front door has one signed by its host where nobody has begun to ask an authority.
  const isLocal = acme === undefined && (!hasAcme || isReserved);
  return [
    ...entries,
    { source: isLocal ? "local" : "fly", status: isLocal ? "active" : "pending", issued: [] },
  ];
}

export function detailOf(told: Told): CertificateDetail {
  const { claim, acme, checked, nowMs, requirements } = told;
  const entries = entriesOf(told);
  const isActive = entries.some(({ status }) => status === "active");
  const { leadsHere = false, isWhole = false, hasOwnership = false } = checked?.state ?? {};
  // An authority that has issued one has been here itself.
  const proved = acme?.certificate !== undefined && acme.failed === 0;
  const { rate_limited_until_ms, next_attempt_ms = 0, attempts_ms = [], failures = [] } = acme ?? {};
  const isLimited = rate_limited_until_ms !== undefined && rate_limited_until_ms > nowMs;
  return {
    hostname: claim.hostname,
    configured: isActive,
    acme_requested: claim.acme_requested,
    status: isActive ? "active" : "pending_validation",
    dns_provider: "",
    ...(isLimited ? { rate_limited_until: timeOf(rate_limited_until_ms) } : {}),
    ...(failures.length > 0 && next_attempt_ms > 0 ? { next_attempt_at: timeOf(next_attempt_ms) } : {}),
    attempts_last_hour: attempts_ms.filter((ms) => ms > nowMs - 3_600_000).length,
    certificates: entries,
    validation: {
      dns_configured: leadsHere || proved,
      http_configured: isWhole || proved,
      alpn_configured: isWhole || proved,
      ownership_txt_configured: hasOwnership,
    },
    dns_requirements: {
      ...requirements,
      acme_challenge: { name: `_acme-challenge.${claim.hostname}`, target: "" },
      ownership: { name: ownershipName(claim.hostname), ...ownershipValues(claim) },
    },
    ...(checked === undefined ? {} : { dns_records: recordsOf(checked.records) }),
    validation_errors: [...failures].reverse().map(({ code, message, at_ms }) => ({
      ...{ code, message, remediation: remedyOf(code), timestamp: timeOf(at_ms) },
    })),
  };
}

const recordsOf = ({ a, aaaa, cname, resolved, ownership }: DomainRecords) => ({
  ...{ a: [...a], aaaa: [...aaaa], cname: [...cname], resolved_addresses: [...resolved] },
  ...(ownership[0] === undefined ? {} : { ownership_txt: ownership[0] }),
});

export function summaryOf(told: Told): Type.Static<typeof CertificateSummary> {
  const { hostname, status, configured, acme_requested, validation, dns_provider } = detailOf(told);
  return {
    ...{ hostname, status, configured, acme_requested, dns_provider },
    acme_dns_configured: validation.dns_configured,
    acme_http_configured: validation.http_configured,
    acme_alpn_configured: validation.alpn_configured,
    ownership_txt_configured: validation.ownership_txt_configured,
    has_custom_certificate: told.claim.custom !== undefined,
    has_fly_certificate: told.acme?.certificate !== undefined,
    created_at: timeOf(told.claim.created_at_ms),
    updated_at: timeOf(told.claim.updated_at_ms),
  };
}

const remedies: Readonly<Record<string, string>> = {
  dns: "Give the name an address of this region, then check it again.",
  connection: "Let ports 80 and 443 of the region's hosts be reached from outside, then check it again.",
  unauthorized: "Have the name lead to this region and to nowhere else, then check it again.",
  incorrectResponse: "Have the name lead to this region and to nowhere else, then check it again.",
  tls: "Have nothing stand between the name and this region that ends TLS.",
  caa: "Permit the authority in the CAA records of the name.",
  rateLimited: "Wait; it is tried again by itself when the authority allows it.",
  rejectedIdentifier: "The authority signs for no such name; upload a certificate.",
  unavailable: "Look whether this host reaches the authority; it is tried again by itself.",
  externalAccountRequired: "Set HEARTH_ACME_EAB_KID and HEARTH_ACME_EAB_KEY_FILE, and start Hearth again.",
};
const remedyOf = (code: string): string =>
  remedies[code] ?? "It is tried again by itself; check the name to have it tried sooner.";
