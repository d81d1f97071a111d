import assert from "node:assert/strict";
import { SocketAddress } from "node:net";
import { endianness } from "node:os";
import { test } from "node:test";
import fc from "fast-check";
import { addressWords } from "./lanes.ts";
import { AddressMap, addressPort, addressText, writeAddress } from "./socket-address.ts";

const port = fc.integer({ min: 0, max: 65_535 });
const ipv6 = fc
  .array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 65_535 })), { minLength: 8, maxLength: 8 })
  .map((groups) => groups.map((group) => group.toString(16)).join(":"))
  .map((address) => new SocketAddress({ address, family: "ipv6" }).address);

test("an address is the same after it was written as the kernel has it", () => {
  assert.equal(endianness(), "LE");
  const words = new Int32Array(2 * addressWords);
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), ipv6), port, (address, port) => {
      writeAddress(words, addressWords, { address, port });
      assert.equal(addressText(words, addressWords), address);
      assert.equal(addressPort(words, addressWords), port);
    }),
  );
  const bytes = Buffer.from(words.buffer);
  writeAddress(words, 0, { address: "192.0.2.1", port: 0x1234 });
  assert.equal(bytes.toString("hex", 0, 8), "02001234c0000201");
  writeAddress(words, 0, { address: "fe80::1", port: 53, zone: 3 });
  assert.equal(bytes.toString("hex", 0, 28), "0a00003500000000fe80000000000000000000000000000103000000");
  assert.equal(addressText(words, 0), "fe80::1%3");
});

test("what is known of an address is known for all its ports, and for no other address", () => {
  const words = new Int32Array(addressWords);
  const write = (address: string, port: number): void => writeAddress(words, 0, { address, port });
  for (const addresses of [fc.ipV4(), ipv6])
    fc.assert(
      fc.property(fc.uniqueArray(addresses, { maxLength: 50 }), port, (addresses, port) => {
        const map = new AddressMap<{ readonly address: string }>(100);
        for (const address of addresses) {
          write(address, port);
          assert.equal(map.get(words, 0), undefined);
          map.set(words, 0, { address });
          write(address, 65_535 - port);
          assert.equal(map.get(words, 0)?.address, address);
        }
      }),
    );
});

test("an address of a link is another on each link, and no map grows for ever", () => {
  const words = new Int32Array(addressWords);
  const map = new AddressMap<object>(10);
  writeAddress(words, 0, { address: "fe80::1", port: 1, zone: 2 });
  map.set(words, 0, {});
  writeAddress(words, 0, { address: "fe80::1", port: 1, zone: 3 });
  assert.equal(map.get(words, 0), undefined);
  const kept = Array.from({ length: 100 }, (_, at) => {
    writeAddress(words, 0, { address: `192.0.2.${at}`, port: 1 });
    map.set(words, 0, {});
    return words.slice();
  }).filter((one) => map.get(one, 0) !== undefined);
  assert.ok(kept.length > 0 && kept.length <= 10, String(kept.length));
});
