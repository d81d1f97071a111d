import assert from "node:assert/strict";
import { test } from "node:test";
import { demoImage, importDemo, startPlatform, until } from "@hearth/testkit";

const skip = process.getuid?.() === 0 ? false : "needs root";

test("a guest finds an app of its network by its own libc, and down leaves no resolver", {
  skip,
  timeout: 600_000,
}, async () => {
  const platform = await startPlatform();
  try {
    await importDemo(platform);
    const ran = await platform.hearth(["run", "-d", "--name", "asker", demoImage]);
    assert.equal(ran.code, 0, ran.stderr);
    const inside = async (...command: string[]) =>
      (await platform.hearth(["exec", "asker", "--", ...command])).stdout;
    const resolv = await inside("cat", "/etc/resolv.conf");
    assert.match(resolv, /^nameserver fd[0-9a-f:]+::3\n$/);
    const own =
      /fd[0-9a-f:]+:1:[0-9a-f:]+/.exec(await inside("ip", "-6", "addr", "show"))?.[0] ?? "no address";
    const listed = await platform.call("GET", "/v1/apps");
    const app: string = listed.body.apps[0].name;
    const [machine] = (await platform.call("GET", `/v1/apps/${app}/machines`)).body;
    const found = await until("its own name", 60_000, async () => {
      const answer = await inside("nslookup", `${machine.id}.vm.${app}.internal`);
      return answer.includes(machine.private_ip) ? answer : undefined;
    });
    assert.ok(found.includes(own), found);
    const pinged = await inside("ping", "-6", "-c", "1", "-W", "5", `${app}.internal`);
    assert.match(pinged, /1 packets received/);
    assert.match(await inside("nslookup", "nobody.internal"), /NXDOMAIN|can't/);
  } finally {
    await platform.down();
  }
  assert.deepEqual(platform.hostResources(), []);
});
