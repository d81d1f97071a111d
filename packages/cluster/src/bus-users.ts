/**
 * Who may say and hear what on the bus: pure, from ids and public keys. The server enforces it.
 *
 * Two accounts, which are two worlds of subjects. Services log in to one; the state stream lives in the other and is
 * reached by imports only. In one account the rules would not hold: the server sends an answer to whatever subject the
 * asker names, with no look at its permissions, so that a node could have the server write another's fact. Across an
 * import the answer stays in the asker's account. Measured on 2.9.10: docs/rfd/0006.
 *
 * The same is why nobody has `allow_responses`, which would let a node publish wherever a message that it sent itself
 * says. A reply goes to `_INBOX.<caller>.<node>.…`, and a node may answer there and nowhere else.
 */
import { statePrefix, stateStream } from "./state-stream.ts";

export interface Permissions {
  readonly publish: { readonly allow: readonly string[]; readonly deny?: readonly string[] };
  readonly subscribe: { readonly allow: readonly string[] };
}

export interface BusUser {
  /** Public. */
  readonly nkey: string;
  readonly permissions: Permissions;
}

/** What an API process is called on the bus; no node id has a dash. */
export const apiIdentity = (nodeId: string): string => `api-${nodeId}`;

/** What a copy of the state needs: to look at the stream, and to follow it with a consumer of its own. */
const readState = [
  "$JS.API.INFO",
  `$JS.API.STREAM.INFO.${stateStream}`,
  `$JS.API.STREAM.MSG.GET.${stateStream}`,
  `$JS.API.CONSUMER.CREATE.${stateStream}`,
  `$JS.API.CONSUMER.CREATE.${stateStream}.>`,
  `$JS.API.CONSUMER.INFO.${stateStream}.*`,
  `$JS.API.CONSUMER.MSG.NEXT.${stateStream}.*`,
  `$JS.API.CONSUMER.DELETE.${stateStream}.*`,
] as const;

/** The services of a node: it says what is its own, and answers for itself. */
export const nodeUser = (nodeId: string, nkey: string): BusUser => ({
  nkey,
  permissions: {
    publish: {
      allow: [
        `${statePrefix}machine.${nodeId}.>`,
        `${statePrefix}node.${nodeId}`,
        `${statePrefix}lease.${nodeId}`,
        `${statePrefix}mesh.${nodeId}`,
        `cmd.${nodeId}.>`,
        // What a front door has to tell of a request that it has for a machine of another host.
        "cmd.*.worker.wake",
        "cmd.*.ingress.used",
        `stream.${nodeId}.>`,
        `load.${nodeId}`,
        `_INBOX.*.${nodeId}.>`,
        ...readState,
      ],
    },
    subscribe: { allow: [`cmd.${nodeId}.>`, `stream.${nodeId}.>`, "load.*", `_INBOX.${nodeId}.>`] },
  },
});

/** The API of a node: it commands all nodes, and writes all facts but those that nodes say of themselves. */
export const apiUser = (nodeId: string, nkey: string): BusUser => {
  const identity = apiIdentity(nodeId);
  return {
    nkey,
    permissions: {
      publish: {
        allow: [`${statePrefix}>`, "cmd.>", `stream.*.${identity}.*.node`, ...readState],
        deny: [`${statePrefix}machine.>`, `${statePrefix}node.>`, `${statePrefix}mesh.>`],
      },
      subscribe: { allow: [`_INBOX.${identity}.>`, `stream.*.${identity}.*.caller`] },
    },
  };
};
