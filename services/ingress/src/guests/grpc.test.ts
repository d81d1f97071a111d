/** gRPC through the front door, with a real client and a real server. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import {
  type Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ClientWritableStream,
  Metadata,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { startDoor } from "../testing/door.ts";
import { machineId } from "../testing/facts.ts";
import { type echoService, grpcClient, startGrpcGuest } from "../testing/grpc.ts";
import { putHttp2Guest } from "../testing/http2-guest.ts";

const host = "web.example.test";

async function withGrpc(implementation: Parameters<typeof startGrpcGuest>[0]) {
  const door = await startDoor();
  const guest = await startGrpcGuest(implementation);
  putHttp2Guest(door, guest.port);
  const client = grpcClient(door.https, host, await door.authority());
  return {
    door,
    client: client as unknown as {
      [name in keyof typeof echoService]: (...args: never[]) => unknown;
    } & Client,
    async [Symbol.asyncDispose]() {
      client.close();
      guest.server.forceShutdown();
      await door[Symbol.asyncDispose]();
    },
  };
}

test("a call of gRPC goes there and back, with its metadata and its trailers", async () => {
  await using run = await withGrpc({
    unary: (call: { request: Buffer; metadata: Metadata }, done: (...args: unknown[]) => void) => {
      const trailer = new Metadata();
      trailer.set("after-bin", Buffer.from([1, 2, 255]));
      const first = new Metadata();
      first.set("first", String(call.metadata.get("asked")[0]));
      (call as unknown as { sendMetadata(sent: Metadata): void }).sendMetadata(first);
      done(null, Buffer.concat([Buffer.from("echo "), call.request]), trailer);
    },
  } as never);
  const asked = new Metadata();
  asked.set("asked", "yes");
  const seen: Metadata[] = [];
  const answer = await new Promise<Buffer>((resolve, reject) => {
    const call = run.client.unary(
      ...([
        Buffer.from("hello"),
        asked,
        (error: ServiceError | null, got: Buffer) => (error === null ? resolve(got) : reject(error)),
      ] as never[]),
    ) as { on(name: string, take: (got: never) => void): void };
    call.on("metadata", (got: Metadata) => seen.push(got));
    call.on("status", ({ metadata }: { metadata: Metadata }) => seen.push(metadata));
  });
  assert.equal(String(answer), "echo hello");
  const event = await run.door.event(({ event }) => event === "request");
  assert.deepEqual([event.status, event.protocol, event.machine_id], [200, "2.0", machineId(1)]);
  assert.equal(seen[0]?.get("first")[0], "yes");
  assert.deepEqual(seen[1]?.get("after-bin")[0], Buffer.from([1, 2, 255]));
});

test("an error of gRPC, which has no body, reaches the client as the error that it is", async () => {
  await using run = await withGrpc({
    unary: (_call: unknown, done: (...args: unknown[]) => void) =>
      done({ code: status.ALREADY_EXISTS, details: "there is one" }),
  } as never);
  const error = await new Promise<ServiceError | null>((resolve) => {
    run.client.unary(...([Buffer.from("x"), resolve] as never[]));
  });
  assert.deepEqual([error?.code, error?.details], [status.ALREADY_EXISTS, "there is one"]);
});

test("streams of gRPC go both ways at once, and end on either side", async () => {
  await using run = await withGrpc({
    chat: (call: ClientDuplexStream<Buffer, Buffer>) => {
      call.on("data", (part: Buffer) => call.write(Buffer.from(`got ${part}`)));
      call.on("end", () => call.end());
    },
    upload: (call: ClientReadableStream<Buffer>, done: (...args: unknown[]) => void) => {
      let bytes = 0;
      call.on("data", (part: Buffer) => {
        bytes += part.length;
      });
      call.on("end", () => done(null, Buffer.from(String(bytes))));
    },
  } as never);
  const chat = run.client.chat() as ClientDuplexStream<Buffer, Buffer>;
  for (const word of ["one", "two"]) {
    chat.write(Buffer.from(word));
    const [part] = (await once(chat, "data")) as [Buffer];
    assert.equal(String(part), `got ${word}`);
  }
  chat.end();
  chat.resume();
  const [{ code }] = (await once(chat, "status")) as [{ code: number }];
  assert.equal(code, status.OK);
  const sum = await new Promise<string>((resolve, reject) => {
    const upload = run.client.upload(
      ...([
        (error: ServiceError | null, got: Buffer) => (error === null ? resolve(String(got)) : reject(error)),
      ] as never[]),
    ) as ClientWritableStream<Buffer>;
    for (let part = 0; part < 40; part += 1) upload.write(Buffer.alloc(100_000));
    upload.end();
  });
  assert.equal(sum, "4000000");
});

test("a deadline that passes and a call that is given up are told to the guest", async () => {
  let told: (() => void) | undefined;
  const timeouts: unknown[] = [];
  await using run = await withGrpc({
    unary: (call: { on(name: string, take: () => void): void; getDeadline(): unknown }) => {
      timeouts.push(call.getDeadline());
      call.on("cancelled", () => told?.());
    },
    download: (call: { on(name: string, take: () => void): void; write(part: Buffer): void }) => {
      call.on("cancelled", () => told?.());
      call.write(Buffer.from("first"));
    },
  } as never);
  const first = new Promise<void>((resolve) => {
    told = resolve;
  });
  await new Promise((resolve) => run.client.waitForReady(Date.now() + 60_000, resolve));
  const late = await new Promise<ServiceError | null>((resolve) => {
    const deadline = Date.now() + 3_000;
    run.client.unary(...([Buffer.from("x"), new Metadata(), { deadline }, resolve] as never[]));
  });
  assert.equal(late?.code, status.DEADLINE_EXCEEDED);
  await first;
  assert.notEqual(timeouts[0], Number.POSITIVE_INFINITY, "the guest knew of the deadline");
  const second = new Promise<void>((resolve) => {
    told = resolve;
  });
  const call = run.client.download(...([Buffer.from("x")] as never[])) as ClientReadableStream<Buffer>;
  call.on("error", () => undefined);
  await once(call, "data");
  call.cancel();
  await second;
});

test("a stream larger than memory goes through in little memory, as fast as the client reads", async () => {
  const part = Buffer.alloc(64 * 1024, "x");
  const parts = 1_200;
  let written = 0;
  await using run = await withGrpc({
    download: async (call: ClientWritableStream<Buffer>) => {
      for (; written < parts; written += 1) if (!call.write(part)) await once(call, "drain");
      call.end();
    },
  } as never);
  const call = run.client.download(...([Buffer.from("x")] as never[])) as ClientReadableStream<Buffer>;
  await once(call, "data");
  call.pause();
  // The guest is held back: it stands still long before it has sent all.
  for (let seen = -1; seen !== written; ) {
    seen = written;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  assert.ok(written < parts / 4, `${written} of ${parts} parts were taken for a client that does not read`);
  let bytes = part.length;
  let most = 0;
  call.on("data", (got: Buffer) => {
    bytes += got.length;
    most = Math.max(most, written * part.length - bytes);
  });
  call.resume();
  await once(call, "end");
  assert.equal(bytes, parts * part.length);
  assert.ok(most < 8 * 1024 * 1024, `${most} bytes were under way at once`);
});
