import { createSocket } from "node:dgram";
import { standIn } from "../../../stand-in.ts";

const { dns } = await standIn("dns", () => ({}));
const socket = createSocket("udp6", (message, { port, address }) => {
  message[2] = 0x81;
  socket.send(message, port, address);
}).bind(53, dns?.address);
