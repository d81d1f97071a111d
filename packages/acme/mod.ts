/** Certificates: asked of an authority by ACME, checked when they are uploaded, and kept with their keys sealed. */

export { type CheckedChain, checkChain, describeChain } from "./src/chain.ts";
export {
  type AcmeAuthorization,
  type AcmeChallenge,
  AcmeClient,
  type AcmeOrder,
  type ChallengeType,
  challengeTypes,
  type ExternalAccount,
  isChallengeType,
} from "./src/client.ts";
export { challengeCertificate, signingRequest } from "./src/der.ts";
export { isReservedName, readHostname } from "./src/hostname.ts";
export { type AccountKey, accountKeyOf, keyAuthorization, newPrivateKey } from "./src/jws.ts";
export { isRateLimited, type Problem, problemOf } from "./src/problem.ts";
export { attemptsPerHour, renewAtMs, retryDelayMs, unsaidLimitMs } from "./src/renewal.ts";
export { newSealingSecret, openSealed, sealWith } from "./src/sealed.ts";
export { type AcmeTransport, httpsTransport } from "./src/transport.ts";
