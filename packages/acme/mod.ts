/** Certificates: asked of an authority by ACME, checked when they are uploaded, and kept with their keys sealed. */
export {
  AcmeClient,
  type AcmeAuthorization,
  type AcmeChallenge,
  type AcmeOrder,
  challengeTypes,
  type ChallengeType,
  type ExternalAccount,
  isChallengeType,
} from "./src/client.ts";
export { challengeCertificate, signingRequest } from "./src/der.ts";
export { type CheckedChain, checkChain, describeChain } from "./src/chain.ts";
export { isReservedName, readHostname } from "./src/hostname.ts";
export { accountKeyOf, type AccountKey, keyAuthorization, newPrivateKey } from "./src/jws.ts";
export { isRateLimited, type Problem, problemOf } from "./src/problem.ts";
export { attemptsPerHour, renewAtMs, retryDelayMs } from "./src/renewal.ts";
export { newSealingSecret, openSealed, sealWith } from "./src/sealed.ts";
export { type AcmeTransport, httpsTransport } from "./src/transport.ts";
