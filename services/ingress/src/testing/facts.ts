/** Facts as workers publish them, and a replica in memory, for the tests of this service. */
import type { Fact, Replica } from "@hearth/cluster";
import { factKeys, type MachineFact } from "@hearth/machine";

export interface FactWish {
  readonly id?: string;
  readonly app?: string;
  readonly node?: string;
  readonly state?: string;
  readonly address?: string;
  readonly services?: readonly unknown[];
  readonly checks?: readonly { readonly name: string; readonly status: string }[];
  readonly config?: Readonly<Record<string, unknown>>;
  readonly cordoned?: boolean;
}

export const webService = (internal_port: number, more: object = {}): object => ({
  protocol: "tcp",
  internal_port,
  ports: [
    { port: 80, handlers: ["http"] },
    { port: 443, handlers: ["tls", "http"] },
  ],
  ...more,
});

export const machineId = (number: number): string => number.toString(16).padStart(14, "0");

export function factOf(wish: FactWish = {}): MachineFact {
  const { id = machineId(1), app = "web", node = "n1", state = "started", services = [] } = wish;
  const { checks = [], address = "::1", cordoned = false, config } = wish;
  const record = { id, state, private_ip: address, checks, cordoned, region: "local" };
  return {
    node_id: node,
    app,
    revision: 1,
    record: { ...record, config: { image: "x", services, ...config } },
  } as unknown as MachineFact;
}

/** A replica in memory: what the table needs of one. */
export function memoryReplica() {
  const facts = new Map<string, Fact>();
  const watchers = new Set<(fact: Fact) => void>();
  let revision = 0;
  const scan = (prefix: string) => [...facts.values()].filter(({ key }) => key.startsWith(prefix));
  const forget = (prefix: string, { revision: since }: { readonly revision: number }): void => {
    for (const { key } of scan(prefix).filter((fact) => fact.revision < since)) set(key, undefined);
  };
  const replica = {
    forget,
    get: (key: string) => facts.get(key),
    scan,
    list: scan,
    watch: (prefix: string, onChange: (fact: Fact) => void) => {
      const watcher = (fact: Fact): void => {
        if (fact.key.startsWith(prefix)) onChange(fact);
      };
      watchers.add(watcher);
      return { [Symbol.dispose]: () => void watchers.delete(watcher) };
    },
  } as unknown as Replica;
  const set = (key: string, value: unknown): void => {
    revision += 1;
    const fact = { key, value, revision };
    if (value === undefined) facts.delete(key);
    else facts.set(key, fact);
    for (const watcher of watchers) watcher(fact);
  };
  const put = (wish: FactWish): void => {
    const fact = factOf(wish);
    set(factKeys.machine(fact.node_id, fact.record.id), fact);
  };
  return { replica, set, put };
}
