/** What routes work with. Made once by RegionalApi from its dependencies. */
import type { Bus, FactStore } from "@hearth/cluster";
import type { Logger } from "@hearth/telemetry";
import type { Certificates } from "./certificates/certificates.ts";
import type { AccessGate } from "./http/access-gate.ts";
import type { MachineAccess } from "./machines/machine-access.ts";
import type { Region } from "./nodes/join.ts";
import type { ImageCheck } from "./placement/image-check.ts";
import type { SessionSockets } from "./sessions/session-sockets.ts";
import type { ClusterView } from "./state/cluster-view.ts";
import type { WorkerClient } from "./state/worker-client.ts";
import type { SshKeeper } from "./tokens/ssh-authority.ts";
import type { TokenIndex } from "./tokens/token-index.ts";
import type { TokenIssuer } from "./tokens/token-issue.ts";

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
