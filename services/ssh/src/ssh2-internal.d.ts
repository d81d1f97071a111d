/** Parts of ssh2 that its types do not name: the server without the client, and how it sends a packet. */
declare module "ssh2/lib/server.js" {
  import { Server } from "ssh2";

  export default Server;
}

declare module "ssh2/lib/protocol/utils.js" {
  const utils: { sendPacket(protocol: unknown, packet: Buffer): boolean };
  export default utils;
}
