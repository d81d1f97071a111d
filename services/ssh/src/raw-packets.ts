/**
 * What ssh2 has no public word for: to tell a client why it is refused (SSH_MSG_USERAUTH_BANNER, RFC 4252, section 5.4),
 * which ssh2 does only before it knows who calls, and how its sftp ended. The version of ssh2 is pinned for this.
 */
import type { Connection, SFTPWrapper } from "ssh2";
import utils from "ssh2/lib/protocol/utils.js";

const bannerMessage = 53;
/** SSH_EXTENDED_DATA_STDERR */
const stderrType = 1;

interface Protocol {
  exitStatus(channel: number, status: number): void;
  channelExtData(channel: number, data: Buffer, type: number): void;
  readonly _packetRW: {
    readonly write: {
      readonly allocStart: number;
      alloc(size: number): Buffer;
      finalize(packet: Buffer): Buffer;
    };
  };
}

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
  utils.sendPacket(protocol, write.finalize(packet));
}

/** As a program that was sftp would end; `scp` takes a channel without an exit status for a failure. */
export function endSftp(sftp: SFTPWrapper, status: number, text?: string): void {
  const { _protocol: protocol, outgoing } = sftp as unknown as {
    readonly _protocol: Protocol;
    readonly outgoing: { readonly id: number; readonly state: string };
  };
  if (outgoing.state === "open") {
    if (text !== undefined)
      protocol.channelExtData(outgoing.id, Buffer.from(`hearth: ${text}\r\n`), stderrType);
    protocol.exitStatus(outgoing.id, status);
  }
  sftp.destroy();
}
