/** Keys and certificates of the SSH gateway, for the API that issues them and the gateway that checks them. */
export { authorityOf, newAuthoritySecret, type SshAuthority } from "./src/authority.ts";
export { type Certificate, parseCertificate, type Refused, signCertificate } from "./src/certificate.ts";
export {
  checkSignature,
  ed25519PublicLine,
  openSshPrivateKey,
  parsePublicKeyLine,
  publicKeyLine,
} from "./src/ed25519.ts";
export { openToken, sealToken } from "./src/sealed-token.ts";
