/** What is the native part's alone: its place in a process and its event loop. Each runs in a process of its own. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { nativePath } from "../testing/datagram-ways.ts";
import { datagramWay } from "./datagrams.ts";
import { loadNative } from "./native-datagrams.ts";

const limit = { timeout: 30_000 };

/** @param body has `datagrams`, an opened socket, `handler`, whose functions it may set, and `send`, to the socket. */
function run(body: string): {
  readonly code: number | null;
  readonly signal: string | null;
  readonly said: string;
} {
  const program = `
    import { createSocket } from "node:dgram";
    import { once } from "node:events";
    import { isMainThread, Worker } from "node:worker_threads";
    import { datagramWay } from ${JSON.stringify(new URL("datagrams.ts", import.meta.url).href)};
    const { open } = datagramWay(${JSON.stringify(nativePath)});
    const handler = { received() {}, lost() {} };
    const called = { received: (count) => handler.received(count), lost: (count) => handler.lost(count) };
    const openAgain = () => open({ address: "::1", port: 0, receiveBufferBytes: 1 << 20, handler: called });
    const datagrams = await openAgain();
    const client = createSocket("udp6");
    client.connect(datagrams.port, "::1");
    await once(client, "connect");
    const send = (text) => client.send(text);
    ${body}`;
  const options = { timeout: 20_000, encoding: "utf8", env: { PATH: process.env.PATH } } as const;
  const args = ["--expose-gc", "--input-type=module-typescript", "--disable-warning=ExperimentalWarning"];
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [...args, "-e", program], options);
  return { code: status, signal, said: stdout + stderr };
}

test("a process may exit while it is open, and in the middle of a batch", limit, () => {
  assert.deepEqual(run("process.exit(7);"), { code: 7, signal: null, said: "" });
  const inBatch = run("handler.received = () => process.exit(8); send('a'); send('b');");
  assert.deepEqual(inBatch, { code: 8, signal: null, said: "" });
});

test("an open one keeps the process, and a closed one does not", limit, () => {
  const closing = "handler.received = () => { console.log('came'); void datagrams.close(); };";
  const kept = run(`${closing} send('a'); client.close();`);
  assert.deepEqual(kept, { code: 0, signal: null, said: "came\n" });
});

test("a thread may end while it is open", limit, () => {
  const worker = `const worker = new Worker(\`
      process.dlopen(globalThis.m = { exports: {} }, ${JSON.stringify(nativePath)});
      const { memory } = m.exports.open("::1", 0, 65536, 32, 2048, () => {});
      require("node:worker_threads").parentPort.postMessage(memory.byteLength);
    \`, { eval: true, execArgv: [] });
    const [bytes] = await once(worker, "message");
    console.log(bytes > 0, await worker.terminate());
    await datagrams.close(); client.close();`;
  assert.deepEqual(run(worker), { code: 0, signal: null, said: "true 1\n" });
});

test("what a handler throws is nobody's to swallow, and its promises run after each batch", limit, () => {
  const thrown = run("handler.received = () => { throw new Error('from the handler'); }; send('a');");
  assert.equal(thrown.code, 1);
  assert.match(thrown.said, /from the handler/);
  const promised = run(`handler.received = (count) => {
      Promise.resolve().then(() => console.log("promise"));
      process.nextTick(() => console.log("tick"));
      void datagrams.close();
    };
    send("a"); client.close();`);
  assert.deepEqual(promised, { code: 0, signal: null, said: "tick\npromise\n" });
});

test("the event loop has its turn while more comes than is taken", limit, () => {
  const flood = run(`let turns = 0, came = 0;
    const wanted = 20_000;
    const turn = () => { turns += 1; if (came < wanted) setImmediate(turn); };
    setImmediate(turn);
    handler.received = (count) => {
      came += count;
      for (let one = 0; one < count; one += 1) send("more");
      if (came < wanted) return;
      client.close(); void datagrams.close(); console.log(turns > wanted / 256);
    };
    for (let one = 0; one < 200; one += 1) send("first");`);
  assert.deepEqual(flood, { code: 0, signal: null, said: "true\n" });
});

test("its memory outlives it for as long as somebody looks, and many are opened and closed", limit, () => {
  const many = run(`const lanes = [];
    for (let one = 0; one < 300; one += 1) {
      const another = await openAgain();
      if (one % 3 === 0) lanes.push(another);
      await another.close();
      await another.close();
      another.send(1);
      if (one % 50 === 0) gc();
    }
    gc();
    for (const { incoming, outgoing } of lanes) { incoming.bytes.fill(1); outgoing.words.fill(2); }
    await datagrams.close(); client.close(); lanes.length = 0; gc();
    await new Promise((resolve) => setImmediate(resolve));
    gc(); console.log("done");`);
  assert.deepEqual(many, { code: 0, signal: null, said: "done\n" });
});

test("arguments that make no sense are refused, and a number of nothing reaches nothing", limit, () => {
  const native = loadNative(nativePath);
  const open = native.open as (...args: unknown[]) => unknown;
  const nothing = (): void => undefined;
  for (const args of [
    [],
    ["localhost", 0, 1, 32, 2_048, nothing],
    ["::1", 65_536, 1, 32, 2_048, nothing],
    ["::1", 0, 1, 0, 2_048, nothing],
    ["::1", 0, 1, 100_000, 2_048, nothing],
    ["::1", 0, 1, 32, 2_047, nothing],
    ["::1", 0, 1, 32, 1 << 20, nothing],
    ["::1", 0, 1, 32, 2_048, {}],
  ])
    assert.throws(() => open(...args), { code: "ERR_INVALID_ARG_VALUE" }, String(args));
  assert.equal(native.send(999_999, 1), 0);
  native.close(999_999);
});

test("a file that is no native part is told, and the other way taken", () => {
  const { way, reason } = datagramWay(import.meta.filename);
  assert.equal(way, "single");
  assert.match(reason ?? "", /native-datagrams\.test\.ts/);
  assert.match(datagramWay("/nonexistent.node").reason ?? "", /nonexistent/);
});
