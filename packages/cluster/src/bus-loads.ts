/**
 * What the front doors of a region tell each other over `load.<nodeId>`: how much each has under way at machines. It
 * changes too often to be state, nobody answers, and what nobody hears is lost; so whoever tells it says all of it from
 * time to time. The server lets a node tell under its own name only.
 */
import { HearthError } from "@hearth/errors";
import Type from "typebox";
import Value from "typebox/value";
import type { Bus } from "./bus.ts";
import { assertToken } from "./subjects.ts";

/** More than the connections of a host; as text it is below the largest message. */
export const mostLoadEntries = 25_000;

/** Machine, internal port, requests and connections under way. */
export type LoadEntry = readonly [machineId: string, internalPort: number, active: number];

export interface LoadReport {
  /** What it does not name is nothing. */
  readonly whole: boolean;
  readonly loads: readonly LoadEntry[];
}

const LoadReportForm = Type.Object(
  {
    whole: Type.Boolean(),
    loads: Type.Array(
      Type.Tuple([
        Type.String({ pattern: "^[a-z0-9]{1,32}$" }),
        Type.Integer({ minimum: 0, maximum: 65_535 }),
        Type.Integer({ minimum: 0, maximum: 1_000_000 }),
      ]),
      { maxItems: mostLoadEntries },
    ),
  },
  { additionalProperties: false },
);

/** Nothing is sent while the bus is away. */
export function tellLoads(bus: Bus, nodeId: string, report: LoadReport): void {
  if (bus.isConnected) bus.connection.publish(`load.${assertToken(nodeId)}`, JSON.stringify(report));
}

export interface LoadListening extends Disposable {
  /** The server refused it, or the connection is closed. */
  readonly isClosed: boolean;
}

/** @param told what is no report is told as an error, and not heard */
export function hearLoads(
  bus: Bus,
  told: {
    readonly heard: (nodeId: string, report: LoadReport) => void;
    readonly failed: (error: HearthError) => void;
  },
): LoadListening {
  const subscription = bus.connection.subscribe("load.*", {
    callback: (error, message) => {
      if (error !== null) return; // it is closed, which `isClosed` says
      const nodeId = message.subject.slice("load.".length);
      const report = parse(message.string());
      if (report !== undefined) told.heard(nodeId, report);
      else
        told.failed(
          new HearthError("invalid_argument", { message: `${nodeId} told loads in no known form.` }),
        );
    },
  });
  return {
    get isClosed() {
      return subscription.isClosed();
    },
    [Symbol.dispose]() {
      if (!subscription.isClosed()) subscription.unsubscribe();
    },
  };
}

function parse(text: string): LoadReport | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return Value.Check(LoadReportForm, value) ? (value as LoadReport) : undefined;
  } catch {
    return undefined;
  }
}
