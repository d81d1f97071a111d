/** Both ways of moving datagrams, for tests that hold for either; scripts/build.sh has made the native part. */
import { resolve } from "node:path";
import { type DatagramWay, datagramWay } from "../datagrams/datagrams.ts";

/** Where scripts/build.sh leaves it. */
export const nativePath = resolve(import.meta.dirname, "../../../../.hearth/assets/datagrams.node");

export const datagramWays: readonly DatagramWay[] = [datagramWay(nativePath), datagramWay(undefined)];
