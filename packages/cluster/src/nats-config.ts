/** The configuration of a nats-server: pure. Why there are two accounts: bus-users.ts. */
import { join } from "node:path";
import type { BusUser, Permissions } from "./bus-users.ts";
import { statePrefix } from "./state-stream.ts";

export interface NatsServerConfig {
  /** Directory of this server: configuration and JetStream store. */
  readonly dir: string;
  /** Unique in its cluster, and the same after a restart. */
  readonly name?: string;
  readonly host?: string;
  readonly port: number;
  /** Below `dir`. */
  readonly store?: string;
  /** Each message is on disk before it is acknowledged; a server before 2.10 takes no such setting. */
  readonly syncsAlways?: boolean;
  /** Limit of the JetStream store, in bytes. */
  readonly maxFileStoreBytes?: number;
  /** One login that may do everything, for a bus that is not a region's. */
  readonly user?: string;
  readonly pass?: string;
  readonly users?: readonly BusUser[];
  /** Public keys of those who keep the state stream: the agents of bus hosts. */
  readonly keepers?: readonly string[];
  /** Public keys of those who change who the servers are. Then it is a server for them alone: see operator-door.ts. */
  readonly operators?: readonly string[];
  readonly cluster?: NatsCluster;
}

export interface NatsCluster {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  /** `host:port` of every server, this one too. */
  readonly routes: readonly string[];
  /** Servers know each other by it. Of letters and digits: it is part of URLs. */
  readonly secret: string;
}

/** Largest message that Hearth sends; also the server's `max_payload`. */
export const maxPayloadBytes = 1024 * 1024;

export const routeUser = "route";

// A JSON string is a valid quoted string of the NATS configuration language, escapes included.
const quote = (text: string): string => JSON.stringify(text);
const list = (texts: readonly string[]): string => `[${texts.map(quote).join(", ")}]`;

export function renderNatsConfig(config: NatsServerConfig): string {
  const address = `${config.host ?? "127.0.0.1"}:${config.port}`;
  return `listen: ${quote(address)}
${config.name === undefined ? "" : `server_name: ${quote(config.name)}\n`}max_payload: ${maxPayloadBytes}
write_deadline: "10s"
ping_interval: "10s"
ping_max: 2
${config.operators === undefined ? renderStore(config) : renderOperators(config.operators)}${
  config.cluster === undefined
    ? ""
    : renderCluster(config.cluster, config.operators === undefined ? address : undefined)
}`;
}

const renderStore = (config: NatsServerConfig): string => `jetstream {
  store_dir: ${quote(join(config.dir, config.store ?? "jetstream"))}
  max_memory_store: 67108864${config.syncsAlways === true ? '\n  sync_interval: "always"' : ""}
  max_file_store: ${config.maxFileStoreBytes ?? 1024 * 1024 * 1024}
}
${config.users === undefined ? renderLogin(config) : renderAccounts(config.users, config.keepers ?? [])}`;

const renderOperators = (operators: readonly string[]): string => `accounts {
  "$SYS" { ${keysOf(operators)} }
}
`;

const renderLogin = ({ user = "", pass = "" }: NatsServerConfig): string => `authorization {
  user: ${quote(user)}
  password: ${quote(pass)}
}
`;

const keysOf = (nkeys: readonly string[]): string =>
  `users: [${nkeys.map((nkey) => `{ nkey: ${quote(nkey)} }`).join(", ")}]`;

const renderAccounts = (users: readonly BusUser[], keepers: readonly string[]): string => `accounts {
  STATE {
    jetstream: enabled
    ${keysOf(keepers)}
    exports: [
      { service: ${quote(`${statePrefix}>`)} }
      { service: "$JS.API.>", response_type: stream }
    ]
  }
  SERVICES {
    users: [
${users.map((user) => `      ${renderUser(user)}\n`).join("")}    ]
    imports: [
      { service: { account: STATE, subject: ${quote(`${statePrefix}>`)} } }
      { service: { account: STATE, subject: "$JS.API.>" } }
    ]
  }
}
`;

const renderUser = ({ nkey, permissions }: BusUser): string =>
  `{ nkey: ${quote(nkey)}, permissions: ${renderPermissions(permissions)} }`;

const renderPermissions = ({ publish, subscribe }: Permissions): string => {
  const deny = publish.deny === undefined ? "" : `, deny: ${list(publish.deny)}`;
  return `{ publish: { allow: ${list(publish.allow)}${deny} }, subscribe: { allow: ${list(subscribe.allow)} } }`;
};

/** Clients are told the addresses of all servers that are for them, so that they find another when theirs is gone. */
const renderCluster = (
  cluster: NatsCluster,
  clientAddress: string | undefined,
): string => `${clientAddress === undefined ? "" : `client_advertise: ${quote(clientAddress)}\n`}cluster {
  name: ${quote(cluster.name)}
  listen: ${quote(`${cluster.host}:${cluster.port}`)}
  ${clientAddress === undefined ? "no_advertise: true" : "connect_retries: 30"}
  authorization { user: ${routeUser}, password: ${quote(cluster.secret)}, timeout: 5 }
  routes: ${list(cluster.routes.map((route) => `nats-route://${routeUser}:${cluster.secret}@${route}`))}
}
`;
