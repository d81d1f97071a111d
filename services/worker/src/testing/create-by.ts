/** A create as the API does it: room is reserved, and the commit presents its fence. */
import { HearthError } from "@hearth/errors";
import type { ReserveAnswer } from "@hearth/machine";

type Command = (name: "reserve" | "commit", request: unknown) => Promise<unknown>;
interface Commit {
  readonly machine_id: string;
  readonly config: object;
}

/** May be repeated: for a machine that is there nothing is reserved, and its commit is answered with what there is. */
export async function createBy(command: Command, commit: Commit): Promise<unknown> {
  const { cpus = 1, memory_mb = 256 } =
    (commit.config as { guest?: Partial<Record<string, number>> }).guest ?? {};
  const request = {
    machine_id: commit.machine_id,
    guest: { cpus, memory_mb: Math.max(memory_mb, 64) },
    ttl_ms: 60_000,
  };
  const held = (await command("reserve", request).catch((thrown: unknown) => {
    if (HearthError.from(thrown).code === "conflict") return { fence: 1 };
    throw thrown;
  })) as Pick<ReserveAnswer, "fence">;
  return command("commit", { ...commit, fence: held.fence });
}
