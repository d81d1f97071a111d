import assert from "node:assert/strict";
import { test } from "node:test";
import { busFindings } from "./doctor-bus.ts";

const said = (bus: Parameters<typeof busFindings>[0]) =>
  busFindings(bus).map(({ level, message }) => `${level} ${message}`);
const far = ["nats://10.0.0.1:4222", "nats://10.0.0.2:4222", "nats://10.0.0.3:4222"];
const three = { server: "member", servers: far, members: ["n1", "n2", "n3"], copies: 3 } as const;

test("a host by itself has one copy, and nothing of it is open to others", () => {
  const servers = ["nats://127.0.0.1:4222"];
  assert.deepEqual(said({ server: "alone", servers, members: [], copies: 1, current_copies: 1 }), [
    "ok This host runs the only server of the bus. It uses nats://127.0.0.1:4222.",
    "ok The bus keeps one copy of the state; a region with three bus hosts keeps three.",
  ]);
  assert.deepEqual(said(null), []);
});

test("copies that are behind are a warning, and so is a bus that others can listen to", () => {
  const [, copies, open] = said({ ...three, current_copies: 2 });
  assert.equal(copies, "warning The bus keeps 3 copies of the state; 2 are current.");
  assert.equal(open, "warning What hosts say to each other on the bus is not encrypted.");
  assert.equal(
    said({ ...three, current_copies: 3 })[1],
    "ok The bus keeps 3 copies of the state; all are current.",
  );
});

test("how a server of each version comes by what it confirms", () => {
  const bus = { ...three, current_copies: 3 };
  assert.equal(
    said({ ...bus, server_version: "2.9.10", syncs_always: false })[1],
    "ok The server is nats-server 2.9.10, which confirms a change before it is on its disk, and has no setting for that; the API waits until it is on its own.",
  );
  assert.equal(
    said({ ...bus, server_version: "2.10.27", syncs_always: true })[1],
    "ok The server is nats-server 2.10.27, which has each change on disk before it confirms it.",
  );
});

test("a host without a server says so, and nothing of copies", () => {
  const lines = said({ server: "none", servers: far.slice(0, 1), members: [] });
  assert.equal(lines[0], "ok This host runs no server of the bus. It uses nats://10.0.0.1:4222.");
  assert.equal(lines.length, 2);
});
