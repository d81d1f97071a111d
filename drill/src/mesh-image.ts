/** The demo image with a program for UDP in it and a large file to fetch: what guests of the mesh drill are. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { demoImage, type RunningFleet, repositoryRoot } from "@hearth/testkit";

export const datagramPort = 7_007;
export const bulkBytes = 1024 ** 2;

/** Of each machine. */
export const meshConfig = {
  image: demoImage,
  init: {
    exec: [
      ...["sh", "-c"],
      `dd if=/dev/zero of=/www/bulk bs=${bulkBytes} count=1 2>/dev/null
       datagram serve ${datagramPort} & exec busybox httpd -f -p 8080 -h /www`,
    ],
  },
};

export async function importMeshImage({ region }: RunningFleet): Promise<void> {
  const run = (program: string, ...args: string[]): void =>
    void execFileSync(program, args, { stdio: ["ignore", "ignore", "inherit"] });
  run("bash", join(repositoryRoot, "scripts/demo-image.sh"));
  const work = mkdtempSync(join(tmpdir(), "hearth-mesh-"));
  try {
    const [layout, tree, layer, archive] = ["layout", "tree", "layer.tar", "image.tar"].map((name) =>
      join(work, name),
    ) as [string, string, string, string];
    for (const directory of [layout, join(tree, "bin")]) mkdirSync(directory, { recursive: true });
    const source = join(repositoryRoot, "drill/src/programs/datagram.rs");
    const target = ["--target", "x86_64-unknown-linux-musl"];
    run("rustc", "--edition", "2021", "-O", ...target, "-o", join(tree, "bin/datagram"), source);
    run("tar", "--owner=0", "--group=0", "-cf", layer, "-C", tree, "bin/datagram");
    run("tar", "-xf", join(repositoryRoot, ".hearth/demo/demo.tar"), "-C", layout);
    run("umoci", "raw", "add-layer", "--image", `${layout}:latest`, layer);
    run("umoci", "gc", "--layout", layout);
    run("tar", "-cf", archive, "-C", layout, ".");
    await region.importImage(archive, demoImage);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
