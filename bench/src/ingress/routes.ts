/** A hundred thousand routes, and how long after its fact is written a route is what requests follow. */
import { once } from "node:events";
import { Agent, request } from "node:http";
import type { IngressService } from "@hearth/ingress";
import { listenHost } from "./peers.ts";

const routes = 100_000;
const samples = 200;
const limitMs = 5_000;

export interface RouteWorld {
  readonly service: IngressService;
  readonly domain: string;
  readonly address: string;
  /** Of the two upstreams that a route changes between, and the status that each answers with. */
  readonly ports: readonly [number, number];
  readonly statuses: readonly [number, number];
}

const idOf = (number: number): string => (0x10_000_000 + number).toString(16).padStart(14, "0");
const serviceAt = (internal_port: number) => ({
  ...{ protocol: "tcp", internal_port, autostart: false },
  ports: [{ port: 80, handlers: ["http"] }],
});

/** Says of so many machines that they serve an app each, and waits until the last one is served. */
export async function holdRoutes({ service, domain, address, ports }: RouteWorld): Promise<number> {
  const wishes = Array.from({ length: routes }, (_, number) => ({
    ...{ id: idOf(number), app: `route${number}`, address },
    services: [serviceAt(ports[0])],
  }));
  const from = performance.now();
  await service.putAll(wishes);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  try {
    while ((await statusOf(service.http, `route${routes - 1}.${domain}`, agent)) === 404);
  } finally {
    agent.destroy();
  }
  return performance.now() - from;
}

/** From the call that writes the fact to the first answer by the new route; asked for without a pause. */
export async function changeRoutes({
  service,
  domain,
  address,
  ports,
  statuses,
}: RouteWorld): Promise<{ readonly p99Ms: number; readonly medianMs: number }> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const times: number[] = [];
  try {
    for (let sample = 0; sample < samples; sample += 1) {
      const number = Math.floor((sample * routes) / samples);
      const name = `route${number}`;
      const host = `${name}.${domain}`;
      const is = await statusOf(service.http, host, agent);
      const to = is === statuses[0] ? 1 : 0;
      const from = performance.now();
      const written = service.put({ id: idOf(number), app: name, address, services: [serviceAt(ports[to])] });
      while ((await statusOf(service.http, host, agent)) !== statuses[to])
        if (performance.now() - from > limitMs) throw new Error(`the route of ${host} did not change`);
      times.push(performance.now() - from);
      await written;
    }
  } finally {
    agent.destroy();
  }
  times.sort((one, other) => one - other);
  const at = (part: number): number =>
    Math.round((times[Math.floor(times.length * part)] ?? Number.NaN) * 10) / 10;
  return { p99Ms: at(0.99), medianMs: at(0.5) };
}

async function statusOf(port: number, host: string, agent: Agent): Promise<number> {
  const asked = request({ port, host: listenHost, path: "/small", headers: { host }, agent });
  asked.end();
  const [answer] = await once(asked, "response", { signal: AbortSignal.timeout(limitMs) });
  answer.resume();
  await once(answer, "end");
  return answer.statusCode as number;
}
