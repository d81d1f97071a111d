import assert from "node:assert/strict";
import { chmod, mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { type CliHost, cliHost, ended } from "./testing/hearth-process.ts";

let host: CliHost;
let id: string;
/** Where the fake keeps the files of the machine. */
let guest: string;
let here: string;
let count = 0;

before(async () => {
  host = await cliHost();
  id = await host.machine("--name", "web", "demo:latest", "sleep", "1000");
  guest = [...host.api.apps.values()].map((machines) => machines.get(id)?.directory).find(Boolean) ?? "";
});
after(() => host[Symbol.asyncDispose]());
beforeEach(async () => {
  count += 1;
  here = `case-${count}`;
  await mkdir(join(guest, here));
  await mkdir(join(host.directory, here));
});

const local = (...path: string[]): string => join(host.directory, here, ...path);
const remote = (...path: string[]): string => join(guest, here, ...path);
const read = (path: string): Promise<string> => readFile(path, "utf8");

describe("out of a machine", () => {
  test("a file goes to a name, into a directory, and keeps its permissions", async () => {
    await writeFile(remote("tool"), "#!", { mode: 0o755 });
    assert.equal((await host.hearth(["cp", `web:/${here}/tool`, `${here}/named`])).code, 0);
    assert.equal((await host.hearth(["cp", `web:${here}/tool`, here])).code, 0);
    assert.equal(await read(local("named")), "#!");
    assert.equal((await stat(local("tool"))).mode & 0o777, 0o755);
  });

  test("a directory goes with all in it, links too, into one that is there or as a new one", async () => {
    await mkdir(remote("site/deep"), { recursive: true });
    await writeFile(remote("site/deep/page"), "page");
    await symlink("deep/page", remote("site/link"));
    assert.equal((await host.hearth(["cp", `web:/${here}/site`, `${here}/new`])).code, 0);
    assert.equal((await host.hearth(["cp", `web:/${here}/site`, here])).code, 0);
    assert.equal((await host.hearth(["cp", `web:/${here}/site/.`, `${here}/site`])).code, 0);
    for (const name of ["new", "site"]) {
      assert.equal(await read(local(name, "deep/page")), "page");
      assert.equal(await readlink(local(name, "link")), "deep/page");
    }
    assert.deepEqual((await readdir(local("site"))).sort(), ["deep", "link"]);
  });

  test("to standard output go the bytes alone", async () => {
    const bytes = Buffer.from([0, 255, 10, 1]);
    await writeFile(remote("bytes"), bytes);
    const child = host.start(["cp", `web:/${here}/bytes`, "-"]);
    assert.deepEqual(Buffer.concat(await Array.fromAsync(child.stdout)), bytes);
  });

  test("a reader of standard output that leaves ends it quietly", async () => {
    await writeFile(remote("large"), Buffer.alloc(8 * 1024 * 1024));
    const child = host.start(["cp", `web:/${here}/large`, "-"]);
    child.stdout.once("data", () => child.stdout.destroy());
    const { code, stderr } = await ended(child);
    assert.deepEqual([code, stderr], [141, ""]);
  });

  test("a link here is not written through, whatever the guest sends", async () => {
    await mkdir(local("outside"));
    await mkdir(local("target"));
    await symlink("../outside", local("target/sub"));
    await symlink("../outside/file", local("target/file"));
    await mkdir(remote("tree/sub"), { recursive: true });
    await writeFile(remote("tree/file"), "new");
    await writeFile(remote("tree/sub/file"), "new");
    const run = await host.hearth(["cp", `web:/${here}/tree/.`, `${here}/target`]);
    assert.equal(run.code, 1);
    assert.match(run.stderr, /symbolic link/);
    assert.deepEqual(await readdir(local("outside")), []);
  });

  test("half a file is never left", async () => {
    const run = await host.hearth(["cp", `web:/${here}/gone`, `${here}/gone`]);
    assert.equal(run.code, 1);
    assert.match(run.stderr, /guest_path_not_found/);
    assert.deepEqual(await readdir(local()), []);
  });
});

describe("into a machine", () => {
  test("a file goes to a name, into a directory, and keeps its permissions", async () => {
    await writeFile(local("tool"), "#!");
    await chmod(local("tool"), 0o755);
    await mkdir(remote("bin"));
    assert.equal((await host.hearth(["cp", `${here}/tool`, `web:/${here}/named`])).code, 0);
    assert.equal((await host.hearth(["cp", `${here}/tool`, `web:/${here}/bin/`])).code, 0);
    assert.equal(await read(remote("named")), "#!");
    assert.equal((await stat(remote("bin/tool"))).mode & 0o777, 0o755);
  });

  test("a directory goes with all in it, and what cannot is named and counts", async () => {
    await mkdir(local("site/deep"), { recursive: true });
    await writeFile(local("site/deep/page"), "page");
    assert.equal((await host.hearth(["cp", `${here}/site`, `web:/${here}/new`])).code, 0);
    assert.equal(await read(remote("new/deep/page")), "page");
    await symlink("deep/page", local("site/link"));
    const run = await host.hearth(["cp", "--json", `${here}/site/.`, `web:/${here}/new`]);
    assert.equal(run.code, 1);
    assert.match(run.stderr, /left out .*site\/link/);
    const { files, directories, bytes, skipped } = JSON.parse(run.stdout);
    assert.deepEqual([files, directories, bytes, skipped.length], [1, 2, 4, 1]);
  });

  test("from standard input come the bytes alone", async () => {
    assert.equal((await host.hearth(["cp", "-", `web:/${here}/in`], "bytes")).code, 0);
    assert.equal(await read(remote("in")), "bytes");
  });
});

describe("what cannot be", () => {
  const rows: [string, string[], number, RegExp][] = [
    ["two paths here", ["a", "b"], 2, /MACHINE:PATH/],
    ["two machines", ["web:/a", "web:/b"], 2, /by way of this host/],
    ["a file here that is not there", ["nope", "web:/x"], 1, /nope: there is no such file.*ENOENT/],
    ["a directory of the machine that is not there", ["/etc/hostname", "web:/none/"], 2, /no directory/],
    ["standard input without a name", ["-", "web:/tmp/"], 2, /has no name/],
  ];
  for (const [what, args, code, says] of rows)
    test(`${what} is ${code} and named`, async () => {
      const run = await host.hearth(["cp", ...args]);
      assert.equal(run.code, code, run.stderr);
      assert.match(run.stderr, says);
    });
});
