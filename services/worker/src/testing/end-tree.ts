import { readFileSync } from "node:fs";

/** With all that it started: its programs lead sessions of their own. */
export function endTree(pid: number): void {
  let children: string[] = [];
  try {
    children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean);
    process.kill(pid, "SIGKILL");
  } catch {
    return; // it is gone, and process 1 has its children
  }
  for (const child of children) endTree(Number(child));
}
