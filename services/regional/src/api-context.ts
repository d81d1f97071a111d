/** What routes work with. Made once by RegionalApi from its dependencies. */
import type { Bus, FactStore } from "@hearth/cluster";
import type { Logger } from "@hearth/telemetry";
import type { AccessGate } from "./access-gate.ts";
import type { Certificates } from "./certificates.ts";
import type { ClusterView } from "./cluster-view.ts";
import type { ImageCheck } from "./image-check.ts";
import type { Region } from "./join.ts";
import type { MachineAccess } from "./machine-access.ts";
import type { SessionSockets } from "./session-sockets.ts";
import type { SshKeeper } from "./ssh-authority.ts";
import type { TokenIndex } from "./token-index.ts";
import type { TokenIssuer } from "./token-issue.ts";
import type { WorkerClient } from "./worker-client.ts";

export interface ApiContext {
  /** Throws `unavailable` while there is no connection; so does `facts`. */
  readonly bus: () => Bus;
  readonly facts: () => FactStore;
  readonly region: Region;
  readonly view: ClusterView;
  readonly worker: WorkerClient;
  readonly access: MachineAccess;
  readonly gate: AccessGate;
  readonly tokens: TokenIndex;
  readonly issuer: TokenIssuer;
  readonly images: ImageCheck;
  readonly sessions: SessionSockets;
  /** Absent where no gateway was set up. */
  readonly ssh: SshKeeper | undefined;
  readonly certificates: Certificates;
  /** The OpenAPI document of all routes. */
  readonly openApi: () => Promise<object>;
  readonly nowMs: () => number;
  readonly randomBytes: (length: number) => Uint8Array;
  readonly logger: Logger;
}
