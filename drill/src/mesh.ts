/**
 * Guests on three hosts, in two networks: who reaches whom, by ping, TCP and UDP, by which names, and how soon again
 * after the mesh is cut or a host is lost. Each host, VM and packet is real; what a guest sees is asked of its own
 * programs.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type FleetHost, type Json, type RunningFleet, startFleet, until } from "@hearth/testkit";
import { bulkBytes, datagramPort, importMeshImage, meshConfig } from "./mesh-image.ts";

export interface MeshOptions {
  readonly onProgress?: (line: string) => void;
}

export interface MeshReport {
  readonly hosts: number;
  readonly guests: number;
  readonly networks: number;
  /** Ordered pairs of guests of one network, each to be reached by ping, by TCP at bulk and by UDP. */
  readonly pairs_expected: number;
  /** The fewest of three looks: at first, after the cut, after the loss. */
  readonly pairs_connected: number;
  /** Ordered pairs of guests of two networks. */
  readonly pairs_apart: number;
  /** Of those, and of guests with hosts other than theirs, how many were reached by ping, TCP or UDP, before, during and after what befell the fleet. */
  readonly violations: number;
  /** Answers of the resolver, by guest and name, of which one looked at the next is not what it is to be. */
  readonly names_asked: number;
  readonly names_wrong: number;
  /** From the end of the cut until all pairs were connected again. */
  readonly cut_recovery_ms: number;
  /** From the loss of a host until its machines had gone from every name. */
  readonly loss_names_gone_ms: number;
  /** From the start of the lost host until all pairs were connected again, and all names right. */
  readonly loss_recovery_ms: number;
  readonly found: readonly string[];
}

interface Guest {
  readonly app: string;
  readonly host: FleetHost;
  readonly id: string;
  readonly address: string;
}

const apps = ["blue", "green"] as const;
const meshLimitMs = 60_000;
const backLimitMs = 180_000;
const callLimitMs = 90_000;
/** Between two looks at guests that share two cores with what they wait for. */
const lookMs = 250;

export async function runMesh({ onProgress = () => undefined }: MeshOptions = {}): Promise<MeshReport> {
  await using fleet = await startFleet({ hosts: 3, apis: 1, buses: 1 });
  const [one, two, three] = [fleet.host(1), fleet.host(2), fleet.host(3)];
  const drill = new MeshDrill(fleet, one);
  onProgress("three hosts are up");
  await drill.setUp();
  onProgress(`${drill.guests.length} guests run`);
  const first = await drill.untilConnected(meshLimitMs);
  await drill.lookForViolations();
  const names = await drill.untilNamesRight(drill.guests, meshLimitMs);
  onProgress(`${first} pairs connected, ${names.wrong} of ${names.asked} names wrong`);

  await fleet.partition([two], [three]);
  await drill.untilApart(two, three, meshLimitMs);
  await drill.lookForViolations();
  const healedMs = performance.now();
  await fleet.heal();
  const healed = await drill.untilConnected(backLimitMs);
  const cut_recovery_ms = Math.round(performance.now() - healedMs);
  onProgress(`connected again ${cut_recovery_ms} ms after the cut`);

  const lostMs = performance.now();
  await three.lose();
  const left = drill.guests.filter(({ host }) => host !== three);
  const namesLeft = await drill.untilNamesRight(left, backLimitMs);
  const loss_names_gone_ms = Math.round(performance.now() - lostMs);
  onProgress(`the lost host's machines had no names ${loss_names_gone_ms} ms after its loss`);
  const startedMs = performance.now();
  await fleet.region.start(three);
  const back = await drill.untilConnected(backLimitMs);
  const namesAfter = await drill.untilNamesRight(drill.guests, backLimitMs);
  const loss_recovery_ms = Math.round(performance.now() - startedMs);
  await drill.lookForViolations();
  const looks = [names, namesLeft, namesAfter];
  return {
    ...{ hosts: fleet.hosts.length, guests: drill.guests.length, networks: apps.length },
    ...{
      pairs_expected: drill.together(drill.guests).length,
      pairs_connected: Math.min(first, healed, back),
    },
    ...{ pairs_apart: drill.apart().length, violations: drill.violations.length },
    names_asked: looks.reduce((sum, { asked }) => sum + asked, 0),
    names_wrong: looks.reduce((sum, { wrong }) => sum + wrong, 0),
    ...{ cut_recovery_ms, loss_names_gone_ms, loss_recovery_ms, found: drill.violations },
  };
}

class MeshDrill {
  readonly guests: Guest[] = [];
  readonly violations: string[] = [];
  readonly #fleet: RunningFleet;
  readonly #api: FleetHost;

  constructor(fleet: RunningFleet, api: FleetHost) {
    this.#fleet = fleet;
    this.#api = api;
  }

  async setUp(): Promise<void> {
    const { region, hosts } = this.#fleet;
    await importMeshImage(this.#fleet);
    for (const app of apps)
      await this.#call("POST", "/v1/apps", { app_name: app, org_slug: "personal", network: app });
    for (const host of hosts) {
      const others = hosts.filter((other) => other !== host).map((other) => region.nodeId(other));
      for (const node of others) await this.#call("POST", `/v1/nodes/${node}/cordon`);
      for (const app of apps) await this.#create(app, host);
      for (const node of others) await this.#call("POST", `/v1/nodes/${node}/uncordon`);
    }
  }

  /** Ordered pairs of one network. */
  together(guests: readonly Guest[]): (readonly [Guest, Guest])[] {
    return guests.flatMap((from) =>
      guests.filter((to) => to !== from && to.app === from.app).map((to) => [from, to] as const),
    );
  }

  apart(): (readonly [Guest, Guest])[] {
    return this.guests.flatMap((from) =>
      this.guests.filter((to) => to.app !== from.app).map((to) => [from, to] as const),
    );
  }

  /** How many of the pairs that are to reach each other do, by ping, by a large file over TCP, and by datagrams. */
  async connected(guests: readonly Guest[]): Promise<number> {
    const wanted = this.together(guests);
    const looks = await Promise.allSettled(guests.map((from) => this.#reached(from, wanted)));
    // All of them are over by now: a look that another one ran beside would be slower than what it looks at.
    const reached = looks.map((look) => {
      if (look.status === "rejected") throw look.reason;
      return look.value;
    });
    return reached.flat().filter(({ ping, bulk, udp }) => ping && bulk && udp).length;
  }

  /** Returns how many are, at the limit when not all are before. */
  async untilConnected(limitMs: number): Promise<number> {
    const expected = this.together(this.guests).length;
    const endMs = performance.now() + limitMs;
    for (;;) {
      const connected = await this.connected(this.guests).catch(() => 0);
      if (connected === expected || performance.now() > endMs) return connected;
      await delay(lookMs);
    }
  }

  /** The guests of two hosts do not reach each other, while both reach the third. */
  async untilApart(one: FleetHost, other: FleetHost, limitMs: number): Promise<void> {
    const guests = this.guests.filter(({ host }) => host === one || host === other);
    await until("the cut is felt", limitMs, async () =>
      (await this.connected(guests)) === 0 ? true : undefined,
    );
  }

  async lookForViolations(): Promise<void> {
    const pairs = [...this.apart(), ...(await this.#otherHosts())];
    const reached = await Promise.all(this.guests.map((from) => this.#reached(from, pairs)));
    for (const { from, to, ping, tcp, udp } of reached.flat())
      if (ping || tcp || udp) this.violations.push(`${from.app} ${from.id} reached ${to.app} ${to.id}`);
  }

  /** Each guest with each host but its own, of which none is to answer it. */
  async #otherHosts(): Promise<(readonly [Guest, Guest])[]> {
    const { nodes } = await this.#call("GET", "/v1/mesh");
    return this.guests.flatMap((from) =>
      nodes
        .filter(({ node_id, address }: Json) => address && node_id !== this.#fleet.region.nodeId(from.host))
        .map(
          ({ node_id, address }: Json) =>
            [from, { app: "host", host: from.host, id: node_id, address }] as const,
        ),
    );
  }

  /**
   * Each guest finds the guests of its own network by the app's name and by their own, and nobody of the other. What is
   * wrong at the limit is counted.
   */
  async untilNamesRight(
    guests: readonly Guest[],
    limitMs: number,
  ): Promise<{ asked: number; wrong: number }> {
    const endMs = performance.now() + limitMs;
    for (;;) {
      const looks = await Promise.all(
        guests.map((guest) => this.#names(guest, guests).catch(() => undefined)),
      );
      const answers = looks.flatMap((one) => one ?? [false]);
      const wrong = answers.filter((right) => !right).length;
      if (wrong === 0 || performance.now() > endMs) return { asked: answers.length, wrong };
      await delay(lookMs);
    }
  }

  async #names(guest: Guest, guests: readonly Guest[]): Promise<boolean[]> {
    const own = guests.filter(({ app }) => app === guest.app);
    const asked = [
      ...apps.map((app) => ({
        name: `${app}.internal`,
        expected: app === guest.app ? own.map(({ address }) => address) : [],
      })),
      ...this.guests.map(({ id, app, address }) => ({
        name: `${id}.vm.${app}.internal`,
        expected: own.some((one) => one.id === id) ? [address] : [],
      })),
    ];
    const script = asked.map(({ name }) => `nslookup -type=aaaa ${name} 2>&1; echo "== ${name}"`).join("\n");
    const parts = (await this.#inside(guest, script)).split(/^== .*$/m);
    return asked.map(({ expected }, index) => {
      // The first address is that of the server which answered.
      const found = [...(parts[index] ?? "").matchAll(/^Address(?: \d+)?:\s*(fd[0-9a-f:]+)\s*$/gm)].map(
        ([, text]) => text,
      );
      return JSON.stringify(found.sort()) === JSON.stringify([...expected].sort());
    });
  }

  async #reached(from: Guest, pairs: readonly (readonly [Guest, Guest])[]) {
    const targets = pairs.filter(([one]) => one === from).map(([, to]) => to);
    const script = targets.map(
      ({ id, address }) =>
        `(ping6 -c 1 -W 4 ${address} >/dev/null 2>&1 && echo ping ${id}) &
         (datagram ask ${address} ${datagramPort} 4 && echo udp ${id}) &
         (got=$(printf 'GET /bulk HTTP/1.0\\r\\n\\r\\n' | timeout 20 nc -w 4 ${address} 8080 2>/dev/null | wc -c)
          [ $got -gt 0 ] && echo tcp ${id}; [ $got -gt ${bulkBytes} ] && echo bulk ${id}) &`,
    );
    const said = targets.length === 0 ? "" : await this.#inside(from, `${script.join("\n")}\nwait`);
    return targets.map((to) => ({
      ...{ from, to },
      ...{ ping: said.includes(`ping ${to.id}`), udp: said.includes(`udp ${to.id}`) },
      ...{ tcp: said.includes(`tcp ${to.id}`), bulk: said.includes(`bulk ${to.id}`) },
    }));
  }

  async #inside({ app, id }: Guest, script: string): Promise<string> {
    const request = { command: ["sh", "-c", script], timeout: 60 };
    return (await this.#call("POST", `/v1/apps/${app}/machines/${id}/exec`, request)).stdout;
  }

  async #create(app: string, host: FleetHost): Promise<void> {
    const machines = `/v1/apps/${app}/machines`;
    const { id, private_ip } = await this.#call("POST", machines, { config: meshConfig });
    await this.#call("GET", `${machines}/${id}/wait?state=started&timeout=60`);
    this.guests.push({ app, host, id, address: private_ip });
  }

  async #call(method: string, path: string, body?: unknown): Promise<Json> {
    const answer = await this.#fleet.region.call(this.#api, method, path, { body, limitMs: callLimitMs });
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${JSON.stringify(answer.body)}`);
    return answer.body;
  }
}
