/** Machines as they cross HTTP. Answers are open: a field may be added, and clients ignore what they do not know. */
import { GuestConfig, MachineConfigInput, machineStates } from "@hearth/machine";
import Type from "typebox";
import { closed, MachineName, opt } from "../http/schemas.ts";

const strings = Type.Record(Type.String(), Type.String());

export const MachineEventAnswer = Type.Object({
  id: Type.String(),
  type: Type.String(),
  status: Type.String(),
  source: Type.Enum(["user", "flyd"]),
  timestamp: Type.Integer({ description: "Milliseconds since 1970." }),
  request: opt(Type.Unknown()),
});

export const MachineCheckAnswer = Type.Object({
  name: Type.String(),
  status: Type.Enum(["passing", "warning", "critical"]),
  output: Type.String(),
  updated_at: Type.String({ format: "date-time" }),
});

export const Warning = Type.Object({
  field: Type.String({ description: "A field that was accepted and stored, and has no effect." }),
  message: Type.String(),
});

const MachineConfigAnswer = Type.Intersect([
  MachineConfigInput,
  Type.Object({ guest: GuestConfig }, { description: "Always spelt out, also when `size` was sent." }),
]);

export const MachineAnswerBody = Type.Object({
  id: Type.String(),
  name: Type.String(),
  state: Type.Enum([...machineStates]),
  region: Type.String(),
  instance_id: Type.String(),
  version: Type.String(),
  private_ip: Type.String(),
  created_at: Type.String({ format: "date-time" }),
  updated_at: Type.String({ format: "date-time" }),
  image_ref: Type.Object({
    registry: Type.String(),
    repository: Type.String(),
    tag: Type.String(),
    digest: Type.String(),
    labels: strings,
  }),
  config: MachineConfigAnswer,
  incomplete_config: Type.Union([MachineConfigAnswer, Type.Null()]),
  events: Type.Array(MachineEventAnswer),
  checks: Type.Array(MachineCheckAnswer),
  host_status: Type.Enum(["ok", "unknown", "unreachable"]),
  cordoned: Type.Boolean(),
  nonce: opt(Type.String()),
  warnings: opt(Type.Array(Warning)),
});

export const PlacementAnswer = Type.Object(
  {
    node_id: opt(Type.String()),
    nodes: Type.Integer({ description: "How many nodes there are." }),
    considered: Type.Array(
      Type.Object({ node_id: Type.String(), code: Type.String(), reason: Type.String() }),
      { description: "At most 20: those that were asked first, then those that their facts decided about." },
    ),
    passed_over: Type.Record(Type.String(), Type.Integer(), {
      description: "How many nodes, by code; in a region of more than 256 only those that were looked at.",
    }),
  },
  { description: "How the node was chosen, and why not another." },
);

export const CreatedMachine = Type.Intersect([
  MachineAnswerBody,
  Type.Object({ placement: opt(PlacementAnswer) }),
]);

/** With `summary`, what is long is left out. */
export const MachineListed = Type.Partial(MachineAnswerBody);

const leaseTtl = opt(Type.Integer({ minimum: 0, maximum: 86_400, description: "Seconds." }));
const launchOptions = {
  skip_launch: opt(Type.Boolean()),
  skip_service_registration: opt(Type.Boolean()),
  skip_secrets: opt(Type.Boolean()),
  min_secrets_version: opt(Type.Integer()),
  lease_ttl: leaseTtl,
};

export const CreateMachine = Type.Object(
  {
    name: opt(MachineName),
    region: opt(Type.String()),
    config: MachineConfigInput,
    ...launchOptions,
    lsvd: opt(Type.Boolean()),
  },
  closed,
);

export const UpdateMachine = Type.Object(
  {
    name: opt(Type.String()),
    region: opt(Type.String()),
    config: MachineConfigInput,
    current_version: opt(Type.String({ pattern: "^[0-7][0-9A-HJKMNP-TV-Z]{25}$" })),
    ...launchOptions,
    lsvd: opt(Type.Boolean()),
  },
  closed,
);
