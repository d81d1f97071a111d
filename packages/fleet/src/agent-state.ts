/** How a host's agent says it stands, asked where the command line asks: a socket in the host's run directory. */
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { join } from "node:path";
import { json } from "node:stream/consumers";

/** What is read of the answer of `hearth doctor`'s source. */
export interface AgentState {
  readonly state: string;
  readonly services: readonly {
    readonly name: string;
    readonly state: string;
    readonly pid: number | null;
  }[];
  readonly problems: readonly string[];
  readonly bus: { readonly current_copies?: number } | null;
}

/** Undefined when no agent answers. */
export async function askAgent(runDir: string, limitMs = 5_000): Promise<AgentState | undefined> {
  try {
    const signal = AbortSignal.timeout(limitMs);
    const asked = request({
      socketPath: join(runDir, "agent.sock"),
      path: "/status",
      agent: false,
      signal,
    }).end();
    const [answer] = (await once(asked, "response", { signal })) as [IncomingMessage];
    return answer.statusCode === 200 ? ((await json(answer)) as AgentState) : undefined;
  } catch {
    return undefined;
  }
}
