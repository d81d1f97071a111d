/** images and apps. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type CliHost, cliHost } from "./testing/hearth-process.ts";

let host: CliHost;
before(async () => {
  host = await cliHost();
});
after(() => host[Symbol.asyncDispose]());

describe("images", () => {
  test("are listed, for people and as JSON", async () => {
    assert.match(
      (await host.hearth(["images"])).stdout,
      /^IMAGE +DIGEST +SIZE +NODE\ndemo:latest +0{12} +4\.0 KiB/,
    );
    const [image] = JSON.parse((await host.hearth(["images", "--json"])).stdout);
    assert.equal(image.reference, "demo:latest");
    assert.equal((await host.hearth(["images", "ls"])).stdout, (await host.hearth(["images"])).stdout);
  });

  test("are imported from a file or from standard input, whole", async () => {
    await writeFile(join(host.directory, "image.tar"), Buffer.alloc(300_000));
    const file = await host.hearth(["images", "import", "image.tar", "--name", "mine:1"]);
    assert.deepEqual([file.code, file.stdout], [0, "mine:1 293 KiB\n"], file.stderr);
    const input = await host.hearth(
      ["images", "import", "--json", "-", "--name", "mine:2"],
      "x".repeat(1000),
    );
    assert.equal(JSON.parse(input.stdout).sizeBytes, 1000);
    assert.equal(input.stderr, "");
  });

  test("are pulled, with progress for people", async () => {
    const pull = await host.hearth(["images", "pull", "busybox:1"]);
    assert.deepEqual([pull.code, pull.stdout], [0, "busybox:1 1.0 KiB\n"]);
    assert.match(pull.stderr, /^Pulling busybox:1 1\.0 KiB\n/);
    const json = await host.hearth(["images", "--json", "pull", "busybox:2"]);
    assert.equal(JSON.parse(json.stdout).reference, "busybox:2");
    assert.equal(json.stderr, "");
  });

  test("are forgotten by name", async () => {
    await host.hearth(["images", "pull", "gone:1"]);
    assert.equal((await host.hearth(["images", "rm", "gone:1"])).stdout, "gone:1\n");
    const again = await host.hearth(["images", "rm", "gone:1"]);
    assert.equal(again.code, 1);
    assert.match(again.stderr, /image_not_found/);
  });

  test("a file that is not there is named, and so is a name that is missing", async () => {
    const gone = await host.hearth(["images", "import", "gone.tar", "--name", "x:1"]);
    assert.equal(gone.code, 1);
    assert.match(gone.stderr, /gone\.tar: there is no such file/);
    const nameless = await host.hearth(["images", "import", "gone.tar"]);
    assert.equal(nameless.code, 2);
    assert.match(nameless.stderr, /--name/);
  });

  test("an error in the middle of a stream is the error of the command", async () => {
    const run = await host.hearth(["images", "--json", "pull", "missing:1"]);
    assert.equal(run.code, 1);
    assert.equal(JSON.parse(run.stderr).error.code, "image_not_found");
  });
});

describe("apps", () => {
  test("are made, listed and removed", async () => {
    assert.equal((await host.hearth(["apps", "create", "shop"])).stdout, "shop\n");
    assert.match((await host.hearth(["apps"])).stdout, /^APP +MACHINES +STATUS +AGE\n(.*\n)*shop /);
    assert.ok(
      JSON.parse((await host.hearth(["apps", "--json"])).stdout).some(
        ({ name }: { name: string }) => name === "shop",
      ),
    );
    const taken = await host.hearth(["apps", "create", "shop"]);
    assert.equal(taken.code, 1);
    assert.match(taken.stderr, /name_taken/);
    assert.equal((await host.hearth(["apps", "rm", "-f", "shop"])).stdout, "shop\n");
    assert.ok(!host.api.apps.has("shop"));
  });
});
