/**
 * What only the agent of a bus host does with the state stream: make it, set how many copies it has, and carry it from
 * one server to a cluster. A server that ran alone throws its streams away when it becomes part of a cluster (2.9.10:
 * "orphaned"), so the stream leaves as a snapshot and comes back as what it was: every revision and the time at which
 * it was made, so that replicas and compare-and-set notice nothing.
 */
import { createReadStream } from "node:fs";
import { open, readFile, rename, writeFile } from "node:fs/promises";
import { HearthError } from "@hearth/errors";
import { JetStreamApiError, jetstream, jetstreamManager, type StreamInfo } from "@nats-io/jetstream";
import { createInbox, type Msg } from "@nats-io/nats-core";
import type { Bus } from "./bus.ts";
import { ensureStateStream, factError, statePrefix, stateStream } from "./state-stream.ts";
import { assertKey } from "./subjects.ts";

const askLimitMs = 5_000;
const chunkBytes = 128 * 1024;
const streamNotFound = 10059;

export interface StateHealth {
  /** How many copies the stream is to have. */
  readonly copies: number;
  /** How many of them are up to date. */
  readonly current: number;
  /** The servers, by name, whose copies are not. */
  readonly behind: readonly string[];
  /** The server, by name, that writes go through; undefined where there is one server. */
  readonly leader?: string;
}

/** Undefined when there is no stream. @throws HearthError `unavailable`, `deadline_exceeded` */
export async function stateHealth(bus: Bus): Promise<StateHealth | undefined> {
  const info = await streamInfo(bus);
  if (info === undefined) return undefined;
  const { leader, replicas = [] } = info.cluster ?? {};
  const behind = replicas.filter((peer) => !peer.current || peer.offline === true).map(({ name }) => name);
  return {
    copies: info.config.num_replicas,
    current: replicas.length - behind.length + 1,
    behind,
    ...(leader === undefined ? {} : { leader }),
  };
}

/**
 * Makes the stream when there is none, and has it get more copies, where it has fewer. Fewer it gets with the servers
 * that go: whoever told it to have fewer could not say which.
 * @throws HearthError as `stateHealth`
 */
export async function keepStateStream(bus: Bus, copies: number): Promise<void> {
  try {
    const manager = await jetstreamManager(bus.connection, { timeout: askLimitMs });
    await ensureStateStream(manager, copies);
    const { config } = await manager.streams.info(stateStream);
    if (config.num_replicas < copies)
      await manager.streams.update(stateStream, { ...config, num_replicas: copies });
  } catch (error) {
    throw factError(error);
  }
}

/**
 * Whether a write of this key reaches the stream through this client's server, and its answer comes back. It is one that
 * is refused, so nothing is written.
 */
export async function takesWrites(bus: Bus, key: string, limitMs: number): Promise<boolean> {
  try {
    await jetstream(bus.connection, { timeout: limitMs }).publish(statePrefix + assertKey(key), "", {
      timeout: limitMs,
      expect: { lastSubjectSequence: Number.MAX_SAFE_INTEGER },
    });
    return true;
  } catch (error) {
    return error instanceof JetStreamApiError;
  }
}

/** Writes the stream to two files; whoever sees the second has both whole. Returns how many facts it has. */
export async function saveState(bus: Bus, path: string): Promise<number> {
  const { connection } = bus;
  const inbox = createInbox(`_INBOX.${bus.identity}`);
  const chunks = connection.subscribe(inbox);
  const file = await open(`${path}.part`, "w", 0o600);
  try {
    const asked = { deliver_subject: inbox, no_consumers: true, chunk_size: chunkBytes };
    const answer = await ask(bus, `$JS.API.STREAM.SNAPSHOT.${stateStream}`, JSON.stringify(asked));
    const { config, state } = answer.json<StreamInfo>();
    for await (const chunk of withLimit(chunks, askLimitMs)) {
      if (chunk.data.length === 0) break;
      await file.write(chunk.data);
      chunk.respond();
    }
    await file.sync();
    await rename(`${path}.part`, path);
    await writeFile(`${path}.json`, JSON.stringify({ config, state }), { mode: 0o600, flush: true });
    return state.messages;
  } finally {
    chunks.unsubscribe();
    await file.close();
  }
}

/** Puts back what `saveState` wrote. Does nothing when there is a stream. Returns whether it did something. */
export async function restoreState(bus: Bus, path: string, copies: number): Promise<boolean> {
  if ((await streamInfo(bus)) !== undefined) return false;
  const { config, state } = JSON.parse(await readFile(`${path}.json`, "utf8")) as StreamInfo;
  const body = JSON.stringify({ config: { ...config, num_replicas: copies }, state });
  const begun = await ask(bus, `$JS.API.STREAM.RESTORE.${stateStream}`, body);
  const { deliver_subject } = begun.json<{ deliver_subject: string }>();
  for await (const chunk of createReadStream(path, { highWaterMark: chunkBytes }))
    await ask(bus, deliver_subject, chunk as Buffer);
  await ask(bus, deliver_subject, "");
  return true;
}

async function streamInfo(bus: Bus): Promise<StreamInfo | undefined> {
  try {
    const manager = await jetstreamManager(bus.connection, { timeout: askLimitMs });
    return await manager.streams.info(stateStream);
  } catch (error) {
    if (error instanceof JetStreamApiError && error.code === streamNotFound) return undefined;
    throw factError(error);
  }
}

/** @throws HearthError with what the server says as its cause */
async function ask(bus: Bus, subject: string, data: string | Uint8Array): Promise<Msg> {
  try {
    const answer = await bus.connection.request(subject, data, { timeout: askLimitMs });
    const { error } = answer.data.length === 0 ? {} : answer.json<{ error?: object }>();
    if (error !== undefined) throw new Error(JSON.stringify(error));
    return answer;
  } catch (error) {
    throw factError(error);
  }
}

/** Ends with an error when the next message takes longer than the limit. */
async function* withLimit(messages: AsyncIterable<Msg>, limitMs: number): AsyncGenerator<Msg> {
  const iterator = messages[Symbol.asyncIterator]();
  for (;;) {
    const { promise: late, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => reject(new HearthError("deadline_exceeded", { message: "The snapshot of the state stopped." })),
      limitMs,
    );
    try {
      const next = await Promise.race([iterator.next(), late]);
      if (next.done === true) return;
      yield next.value;
    } finally {
      clearTimeout(timer);
    }
  }
}
