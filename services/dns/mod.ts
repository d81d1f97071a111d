// What measurements run: the real service over a real bus, with names that they choose.
export { type DnsFixture, startDns } from "./src/testing/dns-fixture.ts";
