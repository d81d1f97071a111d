/** The nonce of the lease that a caller holds; the worker that has the machine judges it. */
import Type from "typebox";
import { opt } from "../http/schemas.ts";

export const leaseHeader = "fly-machine-lease-nonce";

export const LeaseHeaders = Type.Object({
  [leaseHeader]: opt(Type.String({ description: "The nonce of the lease that the caller holds." })),
});

export const leaseNonce = (headers: Type.Static<typeof LeaseHeaders>): string | undefined =>
  headers[leaseHeader] || undefined;
