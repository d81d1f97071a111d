/** The nonce of the lease that a caller holds; the worker that has the machine judges it. */
import type { IncomingHttpHeaders } from "node:http";

export const leaseHeader = "fly-machine-lease-nonce";

export function leaseNonce(headers: IncomingHttpHeaders): string | undefined {
  const nonce = headers[leaseHeader];
  return typeof nonce === "string" && nonce !== "" ? nonce : undefined;
}
