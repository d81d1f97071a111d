/**
 * Credentials of registries, out of `registries.json` in the data directory of the node.
 *
 * The form of `auths` is that of Docker's config.json, so that a file made by `docker login` can be copied.
 * `insecure` lists registries that are spoken to over plain http; loopback ones always are. The file is read
 * at each pull: a new login counts at once, without a restart.
 */
import { readFileSync } from "node:fs";
import { HearthError } from "@hearth/errors";
import Type from "typebox";
import Value from "typebox/value";
import type { RegistryCredentials, RegistryOptions } from "./registry-client.ts";

const Auth = Type.Object({
  /** base64 of `username:password` */
  auth: Type.Optional(Type.String()),
  username: Type.Optional(Type.String()),
  password: Type.Optional(Type.String()),
});
const RegistriesFile = Type.Object({
  auths: Type.Optional(Type.Record(Type.String(), Auth)),
  insecure: Type.Optional(Type.Array(Type.String())),
});
type RegistriesFile = Type.Static<typeof RegistriesFile>;

/** @throws HearthError `invalid_argument` for a file of another shape; an absent file is an empty one */
export function readRegistries(path: string): (registry: string) => RegistryOptions {
  const file = readFile(path);
  const auths = Object.entries(file.auths ?? {}).map(([host, auth]) => [canonicalHost(host), auth] as const);
  return (registry) => {
    const auth = auths.find(([host]) => host === canonicalHost(registry))?.[1];
    const credentials = auth === undefined ? undefined : credentialsOf(auth);
    return {
      ...(credentials === undefined ? {} : { credentials }),
      ...(file.insecure?.includes(registry) === true ? { insecure: true } : {}),
    };
  };
}

function readFile(path: string): RegistriesFile {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw cause;
  }
  const value = parse(text);
  if (Value.Check(RegistriesFile, value)) return value;
  // Never the problem's value: it may be a password.
  throw new HearthError("invalid_argument", {
    message: "registries.json on this node has another shape than Docker's config.json; correct it.",
  });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function credentialsOf(auth: Type.Static<typeof Auth>): RegistryCredentials | undefined {
  if (auth.username !== undefined && auth.password !== undefined)
    return { username: auth.username, password: auth.password };
  const decoded = Buffer.from(auth.auth ?? "", "base64").toString("utf8");
  const colon = decoded.indexOf(":");
  if (colon <= 0) return undefined;
  return { username: decoded.slice(0, colon), password: decoded.slice(colon + 1) };
}

/** Docker writes its own hub as `https://index.docker.io/v1/`, and others with or without a scheme. */
function canonicalHost(text: string): string {
  const host = text.replace(/^https?:\/\//, "").replace(/\/.*$/, "");
  return host === "index.docker.io" || host === "registry-1.docker.io" ? "docker.io" : host;
}
