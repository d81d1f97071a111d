/**
 * Who calls: a certificate of this region's authority, and a signature of this connection made with its key. ssh2 does
 * not know certificates; it hands over what the client sent, and everything is checked here.
 *
 * The certificate holds an API token, sealed. From here on the gateway is a client of the API with that token and
 * nothing else, so it can do what its caller may do, and a revoked token ends the certificate with it.
 */
import { HearthError } from "@hearth/errors";
import { type CurrentToken, HearthClient } from "@hearth/sdk";
import {
  type Certificate,
  checkSignature,
  openToken,
  parseCertificate,
  type Refused,
  type SshAuthority,
} from "@hearth/ssh-keys";

/** As the API has it for tokens. */
export const clockToleranceMs = 60_000;

export interface OfferedKey {
  readonly data: Buffer;
  /** Both absent while the client only asks whether the key would do. */
  readonly signature?: Buffer | undefined;
  readonly blob?: Buffer | undefined;
}

export interface LoggedIn {
  readonly client: HearthClient;
  readonly tokenId: string;
  readonly label: string;
  readonly keyId: string;
  /** Of the certificate, and so of its token. */
  readonly validUntilMs: number;
}

export type LoginOutcome =
  | { readonly kind: "would_do" }
  | { readonly kind: "logged_in"; readonly user: LoggedIn }
  /** `text` is for the client; absent where nothing is proven of whoever calls. */
  | { readonly kind: "refused"; readonly reason: string; readonly text?: string };

export interface LoginDeps {
  readonly authority: SshAuthority;
  readonly apiUrl: string;
  readonly nowMs: () => number;
}

const again = "`hearth ssh issue` makes a new certificate, and `hearth ssh MACHINE` does it for you";
const texts: Partial<Record<Refused, string>> = {
  expired: `the certificate has expired; ${again}`,
  not_yet_valid: "the certificate is not valid yet; compare the clocks of the hosts",
  other_authority: `the certificate is not of this region; ${again}`,
};

const refuse = (reason: string, text?: string): LoginOutcome => ({
  ...{ kind: "refused", reason },
  ...(text === undefined ? {} : { text }),
});

/** Never rejects. */
export async function login(deps: LoginDeps, offered: OfferedKey): Promise<LoginOutcome> {
  const { authority, nowMs } = deps;
  const certificate = parseCertificate(offered.data, {
    ...{ authority, nowMs: nowMs() },
    toleranceMs: clockToleranceMs,
  });
  if (typeof certificate === "string") return refuse(certificate, texts[certificate]);
  const { signature, blob } = offered;
  if (signature === undefined || blob === undefined) return { kind: "would_do" };
  if (!checkSignature(certificate.publicKey, blob, signature)) return refuse("bad_signature");
  const token = openToken(authority, certificate.publicKey, certificate.sealedToken);
  return token === undefined ? refuse("sealed_for_another") : withToken(deps, certificate, token);
}

async function withToken(
  { apiUrl }: LoginDeps,
  { keyId, validUntilMs }: Certificate,
  token: string,
): Promise<LoginOutcome> {
  const client = new HearthClient({ apiUrl, token });
  try {
    const [current] = await client.tokens.current();
    if (current === undefined) return refuse("unauthenticated");
    return { kind: "logged_in", user: { client, keyId, validUntilMs, ...named(current) } };
  } catch (thrown) {
    const { code, message } = HearthError.from(thrown);
    const text =
      code === "unauthenticated" ? `the token of the certificate is refused (${message}); ${again}` : message;
    return refuse(code, text);
  }
}

const named = ({ token_id, label }: CurrentToken) => ({ tokenId: token_id, label });
