import { readdir } from "node:fs/promises";
import { resolve } from "node:path";

export const repositoryRoot: string = resolve(import.meta.dirname, "../..");

/** Every TypeScript file of the repository that people write, as paths from its root. */
export async function sourceFiles(): Promise<string[]> {
  const rooms = ["packages", "services", "cli", "sdk", "bench", "drill", "scripts"];
  const found: string[] = [];
  for (const room of rooms) {
    for (const entry of await readdir(resolve(repositoryRoot, room), { recursive: true })) {
      const path = `${room}/${entry}`;
      if (path.endsWith(".ts") && !path.includes("node_modules/") && !path.includes("/gen/"))
        found.push(path);
    }
  }
  return found;
}
