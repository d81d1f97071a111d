/**
 * Tells a client why it is refused (SSH_MSG_USERAUTH_BANNER, RFC 4252, section 5.4). ssh2 sends a banner only before
 * it knows who calls, so this writes the packet with what ssh2 writes its own with; its version is pinned for that.
 */
import { createRequire } from "node:module";
import type { Connection } from "ssh2";

const bannerMessage = 53;

interface Protocol {
  readonly _packetRW: {
    readonly write: {
      readonly allocStart: number;
      alloc(size: number): Buffer;
      finalize(packet: Buffer): Buffer;
    };
  };
}
const require = createRequire(import.meta.url);
const { sendPacket } = require("ssh2/lib/protocol/utils.js") as {
  sendPacket(protocol: Protocol, packet: Buffer): boolean;
};

export function sendBanner(connection: Connection, text: string): void {
  const protocol = (connection as unknown as { readonly _protocol: Protocol })._protocol;
  const { write } = protocol._packetRW;
  const bytes = Buffer.from(`hearth: ${text}.\r\n`);
  // `alloc` moves where the payload begins, so it is asked first.
  let at = write.allocStart;
  const packet = write.alloc(1 + 4 + bytes.length + 4);
  packet[at] = bannerMessage;
  at = packet.writeUInt32BE(bytes.length, at + 1);
  at += bytes.copy(packet, at);
  packet.writeUInt32BE(0, at);
  sendPacket(protocol, write.finalize(packet));
}
