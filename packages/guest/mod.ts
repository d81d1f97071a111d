export {
  type ConnectGuestOptions,
  connectGuest,
  type GuestConnection,
} from "./src/connect-guest.ts";
export * as wire from "./src/gen/hearth/guest/v1/guest_pb.js";
export type { GuestClient } from "./src/guest-client.ts";
