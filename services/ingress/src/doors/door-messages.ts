/** What the process that takes the connections and those that serve beside it say to each other. */
import type { LoadReport } from "@hearth/cluster";
import type { ChallengeQuestion } from "@hearth/machine";
import type { Endpoint } from "../routes/endpoint.ts";
import type { DoorSnapshot } from "../telemetry/door-metrics.ts";

/** What a connection was made to: the port of HTTP, that of HTTPS, or one that an app has for itself. */
export type Arrival =
  | { readonly kind: "http" }
  | { readonly kind: "https" }
  | { readonly kind: "tcp"; readonly port: number; readonly app: string; readonly tls: boolean };

export type StartWish = Pick<Endpoint, "id" | "nodeId">;

export type ToChild =
  /** The first word. */
  | {
      readonly type: "begin";
      readonly httpsPort: number;
      /** Base64. A session of TLS that one process began is taken up by any other. */
      readonly ticketKeys: string;
    }
  /** Comes with the connection. */
  | { readonly type: "connection"; readonly number: number; readonly arrival: Arrival }
  | { readonly type: "loads"; readonly report: LoadReport }
  /** The machine is about to be stopped, or was not stopped after all. */
  | { readonly type: "draining"; readonly machineId: string; readonly isDraining: boolean }
  | { readonly type: "started"; readonly number: number; readonly error?: object }
  | { readonly type: "count" }
  /** Asks whether this is shown to an authority, when it is or at the end of the time. */
  | {
      readonly type: "challenge";
      readonly number: number;
      readonly question: ChallengeQuestion;
      readonly limitMs: number;
    }
  /** Let what is under way end, and go. */
  | { readonly type: "stop" };

export type FromChild =
  /** Its routes are as new as those of anybody: it may be given connections. */
  | { readonly type: "ready" }
  | { readonly type: "closed"; readonly numbers: readonly number[] }
  | { readonly type: "loads"; readonly report: LoadReport }
  /** Asks that a machine is started, as the other processes may have asked already. */
  | { readonly type: "start"; readonly number: number; readonly machine: StartWish }
  /** All that it has counted, when it was asked and before it ends. */
  | { readonly type: "counted"; readonly snapshot: DoorSnapshot }
  | { readonly type: "challenged"; readonly number: number; readonly shown: boolean }
  /** Of the last second: how much of it the process was at work. */
  | { readonly type: "busy"; readonly share: number };
