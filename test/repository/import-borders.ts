/** One import statement; `target` is a path from the repository root, or a bare specifier. */
export interface SourceImport {
  readonly file: string;
  readonly target: string;
}

const services = new Set(["regional", "worker", "images", "ingress", "dns", "host-agent", "ssh"]);
const room = (path: string): string => {
  const [first = "", second = ""] = path.split("/");
  return first === "packages" || first === "services" ? `${first}/${second}` : first;
};

function refuse({ file, target }: SourceImport): string | undefined {
  if (target.startsWith("node:")) return undefined;
  if (target.startsWith("@hearth/")) {
    const [, name = "", ...inside] = target.split("/");
    if (inside.length > 0) return "goes past the door of a package";
    const isOwn = file.startsWith(`services/${name}/`);
    const mayStartHost = name === "host-agent" && /^(cli|scripts)\//.test(file);
    // What tests and measures a part looks at it from outside, and nothing runs on it.
    const looks = /^(test|bench|drill)\//.test(file);
    const mayImport = !services.has(name) || isOwn || mayStartHost || looks;
    return mayImport ? undefined : "imports a service";
  }
  if (!/^(packages|services|cli|sdk|bench|drill|test|scripts)\//.test(target)) return undefined;
  return room(file) === room(target) ? undefined : "leaves its room by a relative path";
}

/** Sentences about every import that crosses a border; empty when all is well. */
export function borderViolations(imports: readonly SourceImport[]): string[] {
  return imports.flatMap((one) => {
    const why = refuse(one);
    return why === undefined ? [] : [`${one.file} -> ${one.target}: ${why}`];
  });
}
