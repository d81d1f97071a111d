/**
 * Targets by name, each with what this process has at its machines. A target is found once and kept until one of its
 * app's machines changes; a name that nothing has is looked up each time, as anybody can ask for any.
 */
import type { Load, LoadedPlace } from "../choosing/choose-place.ts";
import type { CustomDomains } from "./custom-domains.ts";
import { appTarget, findTarget, type Place, type Target } from "./find-target.ts";
import type { RouteTable } from "./route-table.ts";

export interface LoadedTarget extends Omit<Target, "places"> {
  readonly places: readonly LoadedPlace[];
}

const maxKept = 20_000;

export class Targets {
  readonly #table: RouteTable;
  readonly #domain: string;
  readonly #domains: Pick<CustomDomains, "appOf" | "watch"> | undefined;
  readonly #kept = new Kept();
  readonly #loads = new Map<string, Load>();

  constructor(table: RouteTable, domain: string, domains?: Pick<CustomDomains, "appOf" | "watch">) {
    this.#table = table;
    this.#domain = domain;
    this.#domains = domains;
    table.watch((app) => this.#kept.forget(app));
    domains?.watch((app) => this.#kept.forget(app));
  }

  find(host: string, publicPort: number): LoadedTarget | undefined {
    const kept = this.#kept.get(publicPort, host);
    if (kept !== undefined) return kept;
    const appOf = (name: string) => this.#domains?.appOf(name);
    const asked = { host, domain: this.#domain, publicPort, appOf };
    return this.#keep(publicPort, host, findTarget(this.#table, asked));
  }

  /** What an app has at a port of its own. */
  ofApp(app: string, publicPort: number): LoadedTarget | undefined {
    const key = `/${app}`;
    return (
      this.#kept.get(publicPort, key) ?? this.#keep(publicPort, key, appTarget(this.#table, app, publicPort))
    );
  }

  /** All services of all machines of the app. */
  placesOf(app: string): LoadedPlace[] {
    return [...this.#table.ofApp(app)].flatMap((endpoint) =>
      endpoint.services.map((service) => ({
        endpoint,
        service,
        load: this.loadOf(endpoint.id, service.internalPort),
      })),
    );
  }

  loadOf(machineId: string, internalPort: number): Load {
    const key = `${machineId}:${internalPort}`;
    const known = this.#loads.get(key);
    if (known !== undefined) return known;
    const load: Load = {
      active: 0,
      avoidUntilMs: 0,
      busyMs: performance.now(),
      readyMs: undefined,
      draining: false,
    };
    this.#loads.set(key, load);
    return load;
  }

  /** Of all machines that this process had to do with. */
  *loads(): Iterable<{ readonly machineId: string; readonly load: Readonly<Load> }> {
    for (const [key, load] of this.#loads) yield { machineId: key.slice(0, key.indexOf(":")), load };
  }

  /** Of machines that are no more, or were at work for nobody for a while and count as new. */
  forgetLoads(olderThanMs: number): void {
    for (const [key, load] of this.#loads) {
      const gone = this.#table.machine(key.slice(0, key.indexOf(":"))) === undefined;
      if (gone && load.active === 0 && load.busyMs < olderThanMs) this.#loads.delete(key);
    }
  }

  #loadAt({ endpoint, service }: Place): Load {
    const load = this.loadOf(endpoint.id, service.internalPort);
    if (endpoint.state !== "ready") load.readyMs = undefined;
    else load.readyMs ??= performance.now();
    return load;
  }

  #keep(publicPort: number, key: string, found: Target | undefined): LoadedTarget | undefined {
    if (found === undefined) return undefined;
    const places = found.places.map((place) => ({ ...place, load: this.#loadAt(place) }));
    const target = { ...found, places };
    this.#kept.put(publicPort, key, target);
    return target;
  }
}

/** By port and then by name, so that no text is made to look for one. */
class Kept {
  readonly #byPort = new Map<number, Map<string, LoadedTarget>>();
  readonly #ofApp = new Map<string, Map<number, Set<string>>>();
  #size = 0;

  get(port: number, name: string): LoadedTarget | undefined {
    return this.#byPort.get(port)?.get(name);
  }

  put(port: number, name: string, target: LoadedTarget): void {
    if (this.#size >= maxKept) {
      this.#byPort.clear();
      this.#ofApp.clear();
      this.#size = 0;
    }
    const byName = this.#byPort.get(port) ?? new Map<string, LoadedTarget>();
    if (!byName.has(name)) this.#size += 1;
    this.#byPort.set(port, byName.set(name, target));
    const ofApp = this.#ofApp.get(target.app) ?? new Map<number, Set<string>>();
    this.#ofApp.set(target.app, ofApp.set(port, (ofApp.get(port) ?? new Set()).add(name)));
  }

  forget(app: string): void {
    for (const [port, names] of this.#ofApp.get(app) ?? [])
      for (const name of names) if (this.#byPort.get(port)?.delete(name) === true) this.#size -= 1;
    this.#ofApp.delete(app);
  }
}
