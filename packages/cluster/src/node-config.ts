/**
 * What a service of a node knows of itself when it starts. The host agent writes it as one JSON file and names
 * the file in HEARTH_NODE_CONFIG; a service reads no other variable of the environment.
 */
import { readFileSync } from "node:fs";
import { HearthError } from "@hearth/errors";
import Type from "typebox";
import Value from "typebox/value";
import type { BusOptions } from "./bus.ts";
import { apiIdentity } from "./bus-users.ts";

const closed = { additionalProperties: false } as const;
const port = Type.Integer({ minimum: 0, maximum: 65_535 });

export const NodeConfig = Type.Object(
  {
    region: Type.String({ minLength: 1 }),
    /** Names this node in subjects and, shortened, in what it makes on the host. */
    node_id: Type.String({ pattern: "^[a-z0-9]{1,32}$" }),
    /** The 16 bits of this host in every address of its machines. */
    host_number: Type.Integer({ minimum: 1, maximum: 65_535 }),
    /** ULA /48 of the cluster, such as fd00:1234:5678::/48. */
    prefix: Type.String(),
    /** Absolute. Each service uses only the directory below it that bears its name. */
    data_dir: Type.String({ pattern: "^/" }),
    /** Absolute and short: sockets live here. */
    run_dir: Type.String({ pattern: "^/" }),
    nats: Type.Object(
      {
        servers: Type.Array(Type.String()),
        /** The file of the key that services of this node log in with, and that of its API. */
        seed_path: Type.Optional(Type.String()),
        api_seed_path: Type.Optional(Type.String()),
        /** In place of keys, on a bus that is not a region's. */
        user: Type.Optional(Type.String()),
        pass: Type.Optional(Type.String()),
      },
      closed,
    ),
    api: Type.Object({ host: Type.String(), port }, closed),
    /** Of the SSH gateway, on a host with an API, which keeps the secret of the gateways in the file. */
    ssh: Type.Optional(
      Type.Object(
        { host: Type.String(), port, secret_path: Type.String(), seal_seed_path: Type.String() },
        closed,
      ),
    ),
    assets: Type.Object(
      {
        ...{ kernel: Type.String(), initrd: Type.String(), guard: Type.Optional(Type.String()) },
        /** Moves the datagrams of names in batches. */
        datagrams: Type.Optional(Type.String()),
      },
      closed,
    ),
    /** How long the node may run machines that may run elsewhere, without word from the region. */
    lease: Type.Optional(
      Type.Object(
        {
          ttl_ms: Type.Integer({ minimum: 1_000 }),
          renew_ms: Type.Integer({ minimum: 100 }),
          margin_ms: Type.Integer({ minimum: 500 }),
        },
        closed,
      ),
    ),
    /** What an ordinary guest really runs on here. */
    accelerator: Type.Union([Type.Literal("kvm"), Type.Literal("tcg")]),
    /** What machines may use together. */
    capacity: Type.Object({ cpus: Type.Integer(), memory_mb: Type.Integer() }, closed),
    /** Virtual processors for each of the node's; 16 when absent. */
    cpu_overcommit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1024 })),
    /** What an operator says of the node, for machines that ask for it; checked by whoever writes this file. */
    labels: Type.Optional(Type.Record(Type.String(), Type.String())),
    /** Resolvers that guests are given. */
    nameservers: Type.Array(Type.String()),
    /** Of the node's own resolver. */
    dns: Type.Optional(
      Type.Object(
        {
          /** That of the cluster when absent, which has one for all hosts. */
          address: Type.Optional(Type.String({ pattern: "^[0-9a-fA-F:.]+$" })),
          port: Type.Optional(port),
          /** Asked about public names, the first one first: `address`, or `address#port`. */
          upstreams: Type.Array(Type.String({ pattern: "^[0-9a-fA-F:.]+(#[0-9]{1,5})?$" }), { maxItems: 8 }),
        },
        closed,
      ),
    ),
    /** Of the node's front door; each has a default there. */
    ingress: Type.Optional(
      Type.Object(
        {
          /** Apps are below it: `<app>.<domain>`. */
          domain: Type.Optional(Type.String({ pattern: "^[a-z0-9]([a-z0-9.-]{0,200}[a-z0-9])?$" })),
          host: Type.Optional(Type.String()),
          http: Type.Optional(port),
          https: Type.Optional(port),
          /** That many from the start; as many as the load needs, up to a limit, when absent. */
          processes: Type.Optional(Type.Integer({ minimum: 1, maximum: 64 })),
          /** Ports of the host that no app gets. */
          reserved: Type.Optional(Type.Array(port)),
          /** Networks of load balancers that say by the PROXY protocol whose a connection is: `address/bits`. */
          proxy_protocol_from: Type.Optional(
            Type.Array(Type.String({ pattern: "^[0-9a-fA-F:.]+/[0-9]{1,3}$" }), { maxItems: 64 }),
          ),
        },
        closed,
      ),
    ),
    /** Of custom domains: the host's own key to what is sealed for it, and where its API has certificates from. */
    certificates: Type.Optional(
      Type.Object(
        {
          seal_seed_path: Type.String(),
          acme: Type.Optional(
            Type.Object(
              {
                directory: Type.String({ pattern: "^https://" }),
                email: Type.Optional(Type.String()),
                /** PEM of who may sign for the directory; the roots of Node when absent. */
                ca_path: Type.Optional(Type.String()),
                /** Which challenge is tried first. */
                challenge: Type.Optional(Type.Enum(["http-01", "tls-alpn-01"])),
                eab: Type.Optional(Type.Object({ kid: Type.String(), key_path: Type.String() }, closed)),
              },
              closed,
            ),
          ),
        },
        closed,
      ),
    ),
    /** Sentences about what is not enforced on this host. */
    warnings: Type.Array(Type.String()),
  },
  closed,
);
export type NodeConfig = Type.Static<typeof NodeConfig>;

export type LeaseLimits = Required<NonNullable<NodeConfig["lease"]>>;

/**
 * The node ends those machines `ttl_ms` after it sent the last renewal that was acknowledged, and its guards do so
 * half of `margin_ms` later. An API process starts them elsewhere when it has heard nothing for `ttl_ms` and
 * `margin_ms`, so all nodes of a region have the same.
 */
export const defaultLease: LeaseLimits = { ttl_ms: 30_000, renew_ms: 5_000, margin_ms: 10_000 };

/** What a service of the node connects to the bus with; the API of a node is another user than its services. */
export function busLogin(
  { node_id, nats }: Pick<NodeConfig, "node_id" | "nats">,
  as: "node" | "api" = "node",
): BusOptions {
  const seedPath = as === "api" ? nats.api_seed_path : nats.seed_path;
  return {
    servers: nats.servers,
    identity: as === "api" ? apiIdentity(node_id) : node_id,
    ...(seedPath === undefined ? {} : { seedPath }),
    ...(nats.user === undefined ? {} : { user: nats.user }),
    ...(nats.pass === undefined ? {} : { pass: nats.pass }),
  };
}

/** @throws HearthError `invalid_argument` naming the file and the field */
export function readNodeConfig(path: string | undefined): NodeConfig {
  if (path === undefined) {
    throw new HearthError("invalid_argument", {
      message: "HEARTH_NODE_CONFIG is not set; start services with `hearth up`.",
    });
  }
  const value: unknown = JSON.parse(readFileSync(path, "utf8"));
  if (Value.Check(NodeConfig, value)) return value;
  const [problem] = Value.Errors(NodeConfig, value);
  throw new HearthError("invalid_argument", {
    message: `${path}: ${problem?.instancePath || "the file"} ${problem?.message ?? "is not valid"}.`,
  });
}
