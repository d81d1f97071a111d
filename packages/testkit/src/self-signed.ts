/** A certificate that its own key has signed, made by openssl. */
import { execFileSync } from "node:child_process";

/**
 * @param subject as openssl writes it, such as `/CN=x`
 * @param names as openssl writes them, such as `DNS:www.example.com`; it is then no authority's
 * @returns PEM
 */
export function selfSigned(subject: string, names?: string): { readonly key: string; readonly cert: string } {
  const ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
  const extensions =
    names === undefined
      ? []
      : ["-addext", `subjectAltName=${names}`, "-addext", "basicConstraints=critical,CA:FALSE"];
  const made = execFileSync(
    "openssl",
    ["req", "-x509", ...ec, "-nodes", "-subj", subject, ...extensions, "-keyout", "-"],
    { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] },
  );
  const [key = "", cert = ""] = made.split(/(?=-----BEGIN CERTIFICATE)/);
  return { key, cert };
}
