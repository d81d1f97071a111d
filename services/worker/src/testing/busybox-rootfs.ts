import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** A root filesystem of busybox and a user, for real machines; the path of its file. */
export function busyboxRootfs(dir: string): string {
  const tree = join(dir, "image");
  for (const name of ["bin", "etc", "tmp"]) mkdirSync(join(tree, name), { recursive: true });
  copyFileSync("/bin/busybox", join(tree, "bin/busybox"));
  for (const name of ["sh", "cat", "sleep", "ip", "echo", "head", "wc", "hostname", "touch", "ls"])
    symlinkSync("busybox", join(tree, "bin", name));
  writeFileSync(join(tree, "etc/passwd"), "root:x:0:0::/root:/bin/sh\n");
  const rootfsPath = join(dir, "image.squashfs");
  execFileSync("mksquashfs", [tree, rootfsPath, "-quiet", "-no-progress", "-all-root"], { stdio: "ignore" });
  return rootfsPath;
}
