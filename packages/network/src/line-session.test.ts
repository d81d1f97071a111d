import assert from "node:assert/strict";
import { test } from "node:test";
import { LineSession, SessionBroken } from "./line-session.ts";

/** A shell that does what it is told by lines, as `nft -i` does. */
const shell = (changes: { answerMs?: number; maxRequests?: number; command?: string[] } = {}) =>
  new LineSession({
    ...{ command: ["bash"], question: "echo THE ANSWER", answer: /THE ANSWER\n/, answerMs: 5_000 },
    ...changes,
  });
const pidOf = (session: LineSession): Promise<string> => session.ask("echo $$");

test("answers requests in order by one process, and tells what was said against one", async () => {
  const session = shell();
  const said = await Promise.all([1, 2, 3].map((number) => session.ask(`echo ${number}`)));
  assert.deepEqual(said, ["1", "2", "3"]);
  assert.match(await session.ask("no-such-program"), /not found/);
  assert.equal(await session.ask("true"), "");
  assert.equal(await pidOf(session), await pidOf(session));
  session.close();
});

test("a process that ends fails what it was asked, and the next request has another one", async () => {
  const session = shell();
  const first = await pidOf(session);
  await assert.rejects(session.ask("echo bye; exit"), (error) => {
    assert.ok(error instanceof SessionBroken);
    assert.match(error.message, /bye/);
    return true;
  });
  assert.notEqual(await pidOf(session), first);
  process.kill(Number(await pidOf(session)), "SIGKILL");
  // Its end may be seen before or with the next request, which is then the one that fails.
  await session.ask("true").catch((error) => assert.ok(error instanceof SessionBroken));
  assert.equal(await session.ask("echo again"), "again");
  session.close();
});

test("a process that says nothing is ended at the limit, and so is one whose caller gives up", async () => {
  const session = shell({ answerMs: 200 });
  const silent = await pidOf(session);
  await assert.rejects(session.ask("read -r _; sleep 3"), SessionBroken);
  assert.throws(() => process.kill(Number(silent), 0), { code: "ESRCH" });
  const given = await pidOf(session);
  const up = new AbortController();
  const asked = session.ask("read -r _; sleep 3", up.signal);
  setImmediate(() => up.abort(new Error("no longer")));
  await assert.rejects(asked, /no longer/);
  assert.throws(() => process.kill(Number(given), 0), { code: "ESRCH" });
  session.close();
});

test("a program that is not there breaks the session, and too many requests end a process", async () => {
  await assert.rejects(shell({ command: ["no-such-program"] }).ask("true"), SessionBroken);
  const session = shell({ maxRequests: 2 });
  assert.equal(await pidOf(session), await pidOf(session));
  const before = await pidOf(session);
  await pidOf(session);
  assert.notEqual(await pidOf(session), before);
  session.close();
});
