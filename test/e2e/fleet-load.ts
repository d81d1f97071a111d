/** A client of a region that creates machines and reads them, and remembers what it was told. */
import { setTimeout as delay } from "node:timers/promises";
import type { FleetHost, Region } from "@hearth/testkit";

export interface Load {
  /** Ids of machines whose creation was answered with success. */
  readonly acknowledged: readonly string[];
  /** Answers that no failure excuses. */
  readonly violations: readonly string[];
  /**
   * Reads of an acknowledged machine that the API did not know yet. A worker's promise is on its disk and is kept;
   * while the bus has no leader, nobody else can hear of it, and the API answers the create after a limit.
   */
  readonly tooEarly: readonly string[];
  stop(): Promise<void>;
}

const limitMs = 20_000;
const pauseMs = 50;

/** One client for each API. A failed request is only counted: it may have been carried out or not. */
export function startLoad({ region, app, image }: { region: Region; app: string; image: string }): Load {
  const acknowledged: string[] = [];
  const violations: string[] = [];
  const tooEarly: string[] = [];
  const stopping = new AbortController();
  const path = `/v1/apps/${app}/machines`;
  const ask = async (api: FleetHost, method: string, where: string, body?: unknown) => {
    try {
      return await region.call(api, method, where, { body, limitMs });
    } catch {
      return undefined; // Nobody listens, or the connection broke.
    }
  };
  const client = async (api: FleetHost): Promise<void> => {
    const own: string[] = [];
    while (!stopping.signal.aborted) {
      const made = await ask(api, "POST", path, { config: { image }, skip_launch: true });
      if (made?.status === 200) {
        own.push(made.body.id);
        acknowledged.push(made.body.id);
      } else if (made !== undefined && made.status < 500) {
        violations.push(`create at ${api.name}: ${made.status} ${JSON.stringify(made.body)}`);
      }
      const id = own[Math.floor(Math.random() * own.length)];
      const read = id === undefined ? undefined : await ask(api, "GET", `${path}/${id}`);
      if (read?.status === 404) tooEarly.push(`${id} at ${api.name}`);
      else if (read !== undefined && read.status !== 200 && read.status < 500)
        violations.push(`read ${id} at ${api.name}: ${read.status} ${JSON.stringify(read.body)}`);
      await delay(pauseMs, undefined, { signal: stopping.signal }).catch(() => undefined);
    }
  };
  const clients = Promise.all(region.apis.map(client));
  return {
    acknowledged,
    violations,
    tooEarly,
    async stop() {
      stopping.abort();
      await clients;
    },
  };
}
