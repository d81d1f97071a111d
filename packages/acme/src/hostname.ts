/** The name of a custom domain, as a client wrote it: parsed once, and from then on lower case and in ASCII. */
import { isIP } from "node:net";
import { domainToASCII } from "node:url";
import { HearthError } from "@hearth/errors";

/** RFC 6761 and 8375, and what resolves within a region only: no authority signs for these, and no one owns them. */
const reserved = /(^|\.)(internal|local|localhost|invalid|onion|arpa)$/;

/** @throws HearthError `hostname_invalid` */
export function readHostname(text: string): string {
  const given = text.trim().replace(/\.$/, "");
  if (given.startsWith("*."))
    throw refused(
      given,
      "a wildcard belongs to no one app, and proving it needs DNS-01, which is not here; add each name",
    );
  if (isIP(given) !== 0) throw refused(given, "it is an address; use a name");
  const name = domainToASCII(given).toLowerCase();
  const labels = name.split(".");
  const isName = labels.every((label) => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(label));
  if (name === "" || name.length > 253 || labels.length < 2 || !isName || /^\d+$/.test(labels.at(-1) ?? ""))
    throw refused(given, "use a full name such as www.example.com");
  return name;
}

/** That nobody outside can own: only a host's own authority signs for it. */
export const isReservedName = (hostname: string): boolean => reserved.test(hostname);

const refused = (given: string, why: string): HearthError =>
  new HearthError("hostname_invalid", {
    message: `"${given.slice(0, 100)}" cannot be a custom domain: ${why}.`,
    details: { field: "hostname" },
  });
