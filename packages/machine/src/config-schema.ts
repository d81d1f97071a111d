/**
 * The MachineConfig of the Machines API, as a schema. Every field that the API knows is accepted, also
 * those that Hearth does not act on, because clients send whole configurations; what nobody knows is refused.
 */
import Type from "typebox";
import { DurationInput } from "./duration.ts";
import { EgressPolicyInput } from "./egress.ts";
import { PlacementConfig } from "./placement.ts";
import { ServicePort } from "./port-config.ts";

const closed = { additionalProperties: false } as const;
const opt = Type.Optional;
const text = opt(Type.String());
const texts = opt(Type.Array(Type.String()));
const int = opt(Type.Integer({ minimum: 0 }));
const flag = opt(Type.Boolean());
const duration = opt(DurationInput);
const port = Type.Integer({ minimum: 1, maximum: 65_535 });
const textMap = opt(Type.Record(Type.String(), Type.String()));
const open = opt(Type.Unknown());
const oneOf = <const T extends string[]>(...values: T) => Type.Unsafe<T[number]>(Type.Enum(values));

export const InitConfig = Type.Object(
  { exec: texts, entrypoint: texts, cmd: texts, tty: flag, swap_size_mb: int, kernel_args: texts },
  closed,
);

export const GuestConfig = Type.Object(
  {
    cpu_kind: opt(oneOf("shared", "performance")),
    cpus: opt(Type.Integer()),
    memory_mb: opt(Type.Integer()),
    max_memory_mb: int,
    gpus: int,
    gpu_kind: text,
    host_dedication_id: text,
    persist_rootfs: opt(
      Type.Union([oneOf("never", "restart", "always"), Type.Integer({ minimum: 0, maximum: 3 })]),
    ),
    kernel_args: texts,
  },
  closed,
);

export const RestartConfig = Type.Object(
  {
    policy: opt(oneOf("no", "always", "on-failure", "spot-price")),
    max_retries: int,
    gpu_bid_price: opt(Type.Number({ minimum: 0 })),
  },
  closed,
);

export const StopConfig = Type.Object({ signal: text, timeout: duration }, closed);

export const FileConfig = Type.Object(
  {
    guest_path: Type.String({ minLength: 1 }),
    raw_value: text,
    secret_name: text,
    image_config: text,
    mode: opt(Type.Integer({ minimum: 0, maximum: 0o7777 })),
  },
  closed,
);

const Check = Type.Object(
  {
    type: text,
    kind: opt(oneOf("informational", "readiness")),
    /** Of the type exec, which is Hearth's own: a program and its arguments. */
    command: texts,
    port: opt(port),
    interval: duration,
    timeout: duration,
    grace_period: duration,
    method: text,
    path: text,
    protocol: text,
    tls_skip_verify: flag,
    tls_server_name: text,
    headers: opt(Type.Array(Type.Object({ name: text, values: texts }, closed))),
  },
  closed,
);

const Service = Type.Object(
  {
    protocol: text,
    internal_port: opt(port),
    autostop: opt(Type.Union([Type.Boolean(), oneOf("off", "stop", "suspend")])),
    autostart: flag,
    min_machines_running: int,
    ports: opt(Type.Array(ServicePort)),
    checks: opt(Type.Array(Check)),
    concurrency: opt(Type.Object({ type: text, hard_limit: int, soft_limit: int }, closed)),
    force_instance_key: text,
    force_instance_description: text,
  },
  closed,
);

const Mount = Type.Object(
  {
    volume: text,
    path: text,
    name: text,
    encrypted: flag,
    size_gb: int,
    extend_threshold_percent: int,
    add_size_gb: int,
    size_gb_limit: int,
  },
  closed,
);

const Dns = Type.Object(
  {
    skip_registration: flag,
    nameservers: texts,
    searches: texts,
    options: open,
    dns_forward_rules: open,
    hostname: text,
    hostname_fqdn: text,
  },
  closed,
);

export const MachineConfigInput = Type.Object(
  {
    image: Type.String({ minLength: 1 }),
    env: textMap,
    init: opt(InitConfig),
    guest: opt(GuestConfig),
    size: text,
    metadata: textMap,
    mounts: opt(Type.Array(Mount)),
    services: opt(Type.Array(Service)),
    checks: opt(Type.Record(Type.String(), Check)),
    metrics: opt(Type.Object({ port: opt(port), path: text, https: flag }, closed)),
    files: opt(Type.Array(FileConfig)),
    restart: opt(RestartConfig),
    stop_config: opt(StopConfig),
    auto_destroy: flag,
    /** Hearth's own: when its host is lost, the machine starts on another one, with an empty disk. */
    restart_elsewhere: flag,
    spot: flag,
    disable_machine_autostart: flag,
    schedule: opt(oneOf("hourly", "daily", "weekly", "monthly")),
    dns: opt(Dns),
    /** What the machine may send to the world, in the terms of E2B. */
    network: opt(EgressPolicyInput),
    processes: opt(Type.Array(Type.Unknown())),
    standbys: texts,
    statics: opt(Type.Array(Type.Unknown())),
    containers: opt(Type.Array(Type.Unknown())),
    volumes: opt(Type.Array(Type.Unknown())),
    rootfs: opt(Type.Object({ persist: open, size_gb: int }, closed)),
    placement: opt(PlacementConfig),
    cache_drive: opt(Type.Object({ size_mb: int }, closed)),
  },
  closed,
);
export type MachineConfigInput = Type.Static<typeof MachineConfigInput>;
