/** An image of programs that ask for names, each by a C library or a resolver of its own, and nothing that says where. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { repositoryRoot } from "@hearth/testkit";

export const libcImage = "local/libcs:1";
const source = join(repositoryRoot, "test/e2e/programs/resolve.rs");
const run = (program: string, ...args: string[]): string => execFileSync(program, args, { encoding: "utf8" });

/** Copies a program and the libraries that it asks for to where it looks for them. */
function install(tree: string, from: string, to: string): void {
  const put = (file: string, path: string): void => {
    mkdirSync(dirname(join(tree, path)), { recursive: true });
    copyFileSync(file, join(tree, path));
  };
  put(from, to);
  let libraries = "";
  try {
    libraries = execFileSync("ldd", [from], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  } catch {
    // It is static.
  }
  for (const [path] of libraries.matchAll(/\/\S+(?= \(0x)/g)) put(path, path);
}

/** An archive as `hearth images import` takes it. @param work an empty directory */
export function makeLibcImage(work: string): string {
  const tree = join(work, "tree");
  for (const target of ["x86_64-unknown-linux-gnu", "x86_64-unknown-linux-musl"]) {
    const binary = join(work, target);
    run("rustc", "--edition", "2021", "-O", "--target", target, "-o", binary, source);
    install(tree, binary, target.endsWith("musl") ? "/bin/resolve-musl" : "/bin/resolve-glibc");
  }
  assert.match(
    run("ldd", join(work, "x86_64-unknown-linux-musl")),
    /statically linked/,
    "musl is inside of it",
  );
  install(tree, "/bin/busybox", "/bin/busybox");
  for (const applet of ["sh", "sleep", "cat", "timeout", "grep", "hostname"])
    symlinkSync("busybox", join(tree, "bin", applet));
  install(tree, run("sh", "-c", "PATH=$PATH:/usr/sbin command -v nats-server").trim(), "/bin/nats-server");
  mkdirSync(join(tree, "tmp"));
  const [layer, layout, archive] = ["layer.tar", "layout", "image.tar"].map((name) => join(work, name));
  assert.ok(layer !== undefined && layout !== undefined && archive !== undefined);
  run("tar", "--owner=0", "--group=0", "-cf", layer, "-C", tree, ".");
  run("umoci", "init", "--layout", layout);
  run("umoci", "new", "--image", `${layout}:latest`);
  run("umoci", "raw", "add-layer", "--image", `${layout}:latest`, layer);
  const settings = ["--config.env", "PATH=/bin", "--config.cmd", "sleep", "--config.cmd", "1d"];
  run("umoci", "config", "--image", `${layout}:latest`, ...settings);
  run("tar", "-cf", archive, "-C", layout, ".");
  return archive;
}
