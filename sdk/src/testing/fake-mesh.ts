/** The routes of the mesh: two hosts, and a rotation that is done after some looks. */
import { HearthError } from "@hearth/errors";
import { type MeshNodeStatus, type MeshStatus, meshNodeWithout } from "@hearth/machine";

export interface FakeMesh {
  epoch: number;
  /** Looks until the rotation is done. */
  left: number;
  /** How many the next one takes. */
  looks: number;
}

const host = (self: number, other: number, epoch: number): MeshNodeStatus => ({
  ...meshNodeWithout(`n${self}`, "up", null),
  ...{ epoch, epochs: [epoch] },
  peers: [
    {
      ...{
        node_id: `n${other}`,
        state: self === 1 ? "connected" : "silent",
        prefix: `fd00:0:0:${other}::/64`,
      },
      ...{
        endpoint: `192.0.2.${other}:51820`,
        public_key: "k",
        epoch,
        mtu: 1440,
        rx_bytes: 2048,
        tx_bytes: 100,
      },
      ...{ latest_handshake_age_ms: 4_200, heard_age_ms: 300 },
    },
  ],
});

export function lookAtFakeMesh(mesh: FakeMesh): MeshStatus {
  if (mesh.left > 0) mesh.left -= 1;
  const { epoch } = mesh;
  const nodes = [host(1, 2, epoch), host(2, 1, epoch)];
  if (mesh.left === 0) return { state: "steady", epoch, nodes };
  return { state: "rotating", epoch, nodes: nodes.map((node) => ({ ...node, waits_for: ["n2"] })) };
}

export function rotateFakeMesh(mesh: FakeMesh): MeshStatus {
  if (mesh.left > 0)
    throw new HearthError("conflict", { message: "A rotation is under way. It waits for n2." });
  mesh.epoch += 1;
  mesh.left = mesh.looks;
  return lookAtFakeMesh(mesh);
}
