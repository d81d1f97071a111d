import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { carrier, type MeshPeer } from "./mesh-plan.ts";
import { planRotation } from "./mesh-rotation.ts";

const peer = (host: number, epochs: readonly number[], uses: number): MeshPeer => ({
  ...{ node: `n${host}`, host, address: `192.0.2.${host}`, mtu: 1440, uses },
  ends: epochs.map((epoch) => ({ epoch, publicKey: `${host}/${epoch}`, port: 51820 })),
});
const ends = (...epochs: number[]) => epochs.map((epoch) => ({ epoch }));
const always = () => true;

test("a host without a key makes one of the epoch that the region wants", () => {
  const step = planRotation({ ends: [], peers: [], isFresh: always, wanted: 4 });
  assert.deepEqual(step, { add: 4, uses: 4, retire: [], waitsFor: [] });
});

test("a new epoch is one more key, then another use, then one key less", () => {
  const old = [peer(2, [1], 1)];
  assert.equal(planRotation({ ends: ends(1), peers: old, isFresh: always, wanted: 1 }).add, undefined);
  assert.equal(planRotation({ ends: ends(1), peers: old, isFresh: always, wanted: 2 }).add, 2);
  const step = (peers: MeshPeer[], isFresh: (peer: MeshPeer, epoch: number) => boolean = always) =>
    planRotation({ ends: ends(1, 2), peers, isFresh, wanted: 2 });
  assert.deepEqual(step(old), { uses: 1, retire: [], waitsFor: ["n2"] });
  const both = [peer(2, [1, 2], 1)];
  assert.deepEqual(
    step(both, (_peer, epoch) => epoch === 1),
    { uses: 1, retire: [], waitsFor: ["n2"] },
  );
  assert.deepEqual(step(both), { uses: 2, retire: [], waitsFor: ["n2"] });
  assert.deepEqual(step([peer(2, [1, 2], 2)]), { uses: 2, retire: [1], waitsFor: [] });
});

test("a host that is gone holds nobody up, one that is only not heard by the state does", () => {
  const gone = (one: MeshPeer) => one.host !== 3;
  const peers = [peer(2, [1, 2], 2), peer(3, [1], 1)];
  assert.deepEqual(planRotation({ ends: ends(1, 2), peers, isFresh: gone, wanted: 2 }).retire, [1]);
  assert.deepEqual(planRotation({ ends: ends(1, 2), peers, isFresh: always, wanted: 2 }).waitsFor, ["n3"]);
});

test("a rotation that has begun ends before the next begins", () => {
  const step = planRotation({ ends: ends(1, 2), peers: [peer(2, [1], 1)], isFresh: always, wanted: 3 });
  assert.equal(step.add, undefined);
});

// A model of several hosts that hear of each other late and in any order, to look for a moment at which a packet
// would be lost: a host sends by a link on which the other does not know it, or has none.
class ModelHost {
  epochs = [1];
  uses = 1;
  wanted = 1;
  readonly known = new Map<number, { epochs: readonly number[]; uses: number }>();
  /** What the kernel has: by epoch, the peers of the link. */
  links = new Map<number, Set<number>>();
  routes = new Map<number, number>();
  readonly agreed = new Set<string>();
  readonly id: number;

  constructor(id: number) {
    this.id = id;
  }

  peers(): MeshPeer[] {
    return [...this.known].map(([id, { epochs, uses }]) => peer(id, epochs, uses));
  }

  turn(): void {
    const isFresh = ({ host }: MeshPeer, epoch: number): boolean => this.agreed.has(`${host}/${epoch}`);
    const look = () => ({ ends: ends(...this.epochs), peers: this.peers(), isFresh, wanted: this.wanted });
    const step = planRotation(look());
    if (step.add !== undefined) this.epochs = [...this.epochs, step.add];
    this.epochs = this.epochs.filter((epoch) => !step.retire.includes(epoch));
    const { peers, ends: own } = look();
    this.links = new Map(
      this.epochs.map((epoch) => [
        epoch,
        new Set(peers.filter((one) => one.ends.some((end) => end.epoch === epoch)).map(({ host }) => host)),
      ]),
    );
    for (const name of [...this.agreed]) {
      const [host = 0, epoch = 0] = name.split("/").map(Number);
      if (this.links.get(epoch)?.has(host) !== true) this.agreed.delete(name);
    }
    for (const one of peers) {
      const epoch = carrier(
        { ends: own.map((end) => ({ ...end, publicKey: "", port: 0, keyPath: "" })), isFresh },
        one,
      );
      if (epoch !== undefined) this.routes.set(one.host, epoch);
    }
    this.uses = step.uses;
  }
}

class Model {
  readonly hosts: readonly ModelHost[];

  constructor(count: number) {
    this.hosts = Array.from({ length: count }, (_, index) => new ModelHost(index + 1));
    this.settle();
  }

  tell(from: ModelHost, to: ModelHost): void {
    if (from !== to) to.known.set(from.id, { epochs: from.epochs, uses: from.uses });
  }

  /** Hosts that both have the other on a link of an epoch agree on keys. */
  handshakes(): void {
    for (const one of this.hosts)
      for (const [epoch, known] of one.links)
        for (const other of this.hosts)
          if (known.has(other.id) && other.links.get(epoch)?.has(one.id) === true)
            one.agreed.add(`${other.id}/${epoch}`);
  }

  losses(): string[] {
    return this.hosts.flatMap((from) =>
      this.hosts
        .filter((to) => to !== from)
        .filter((to) => to.links.get(from.routes.get(to.id) ?? 0)?.has(from.id) !== true)
        .map((to) => `${from.id} to ${to.id} by ${from.routes.get(to.id)}`),
    );
  }

  settle(): void {
    for (let round = 0; round < 8; round += 1) {
      for (const from of this.hosts) for (const to of this.hosts) this.tell(from, to);
      for (const host of this.hosts) host.turn();
      this.handshakes();
    }
  }
}

test("whatever hosts hear and in which order they act, a rotation loses nothing and comes to its end", () => {
  const act = fc.oneof(
    fc.record({ kind: fc.constant("tell" as const), from: fc.nat(3), to: fc.nat(3) }),
    fc.record({ kind: fc.constant("turn" as const), from: fc.nat(3), to: fc.nat(3) }),
    fc.record({ kind: fc.constant("want" as const), from: fc.nat(3), to: fc.nat(3) }),
    fc.record({ kind: fc.constant("handshake" as const), from: fc.nat(3), to: fc.nat(3) }),
  );
  fc.assert(
    fc.property(fc.array(act, { minLength: 40, maxLength: 160, size: "max" }), (acts) => {
      const model = new Model(4);
      assert.deepEqual(model.losses(), []);
      for (const { kind, from, to } of acts) {
        const [one, other] = [model.hosts[from] as ModelHost, model.hosts[to] as ModelHost];
        if (kind === "tell") model.tell(one, other);
        else if (kind === "turn") one.turn();
        else if (kind === "want") one.wanted = 2;
        else model.handshakes();
        assert.deepEqual(model.losses(), [], `after ${kind} ${one.id} ${other.id}`);
      }
      for (const host of model.hosts) host.wanted = 2;
      model.settle();
      for (const { epochs, uses, id } of model.hosts) assert.deepEqual([id, epochs, uses], [id, [2], 2]);
    }),
    { numRuns: 400 },
  );
});
