/** The output of a machine as lines of JSON. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { HearthClient, type LogOptions, type Target } from "@hearth/sdk";
import { FakeData, logLine } from "../testing/fake-data.ts";
import { startRegion, type TestRegion, testToken, until } from "../testing/fixture.ts";

const data = new FakeData();
let region: TestRegion;
let client: HearthClient;
let target: Target;
before(async () => {
  region = await startRegion({ streams: data.handlers });
  client = new HearthClient({ apiUrl: region.url, token: testToken });
  await region.createApp("web");
  const { id } = await client.machines.create("web", { config: { image: "app:1" } });
  target = { app: "web", id };
});
after(async () => region[Symbol.asyncDispose]());

const logs = (options: LogOptions = {}) => client.machines.logs(target, options);

test("all lines come in order, or the newest that are asked for", async () => {
  assert.deepEqual(await Array.fromAsync(logs()), [0, 1, 2].map(logLine));
  assert.deepEqual(await Array.fromAsync(logs({ tail: 1 })), [logLine(2)]);
  assert.deepEqual(data.last?.request, { machine_id: target.id, tail: 1 });
  const path = `/v1/apps/web/machines/${target.id}/logs`;
  const { headers } = await region.call("GET", path);
  assert.equal(headers.get("content-type"), "application/x-ndjson");
  assert.match(headers.get("fly-request-id") ?? "", /^[0-9A-Z]{26}$/);
});

test("a reader of a silent machine is told at once that it is listened to", async () => {
  data.hold();
  const path = `/v1/apps/web/machines/${target.id}/logs?follow=true&tail=0`;
  const answer = await fetch(`${region.url}${path}`, { headers: { authorization: `Bearer ${testToken}` } });
  assert.equal(answer.status, 200);
  assert.equal(data.last?.writtenBytes, 0, "nothing was written when the answer began");
  data.letGo();
  assert.deepEqual(JSON.parse(await answer.text()), logLine(3));
});

test("a reader that leaves ends the stream", async () => {
  data.hold();
  for await (const line of logs({ follow: true })) {
    assert.deepEqual(line, logLine(0));
    break;
  }
  await until(() => data.last?.ended !== undefined, "the end of the stream");
  assert.equal(data.last?.ended, "cancelled");
});

test("what fails before the first line is an error, and after it the last line", async () => {
  await assert.rejects(Array.fromAsync(logs({ tail: 14 })), { code: "vmm_not_running" });
  const seen: unknown[] = [];
  const reading = async (): Promise<void> => {
    for await (const line of logs({ tail: 13 })) seen.push(line);
  };
  await assert.rejects(reading(), { code: "guest_channel_broken" });
  assert.deepEqual(seen, [0, 1, 2].map(logLine));
  const raw = await region.call("GET", `/v1/apps/web/machines/${target.id}/logs?tail=13`);
  assert.equal(raw.status, 200);
  const last = JSON.parse(raw.text.trim().split("\n").at(-1) ?? "");
  assert.equal(last.kind, "error");
  assert.equal(last.error.code, "guest_channel_broken");
});
