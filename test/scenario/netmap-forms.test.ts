/** pkt-gen, bridge and lb with the arguments of netmap's users, and with all rings they accept. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { DeviceProcess } from "../support/device-process.ts";
import { runInside } from "../support/inside.ts";
import { startApp } from "../support/netmap-app.ts";

let device: DeviceProcess;
beforeAll(async () => {
  device = await DeviceProcess.start("--queues", "32");
});
afterAll(async () => {
  await device.child.stop();
});

it("pkt-gen -t sends so many, the port has no prefix, and the banner says where they go", async () => {
  const words = "pkt-gen -i ena0 -t 1e3 -b 100 -s 10.9.0.1:7 -d 10.9.0.2 -D 02:00:00:00:00:09";
  const { exit, stdout } = await runInside([...words.split(" "), "--connect", device.url]);
  expect(exit?.code).toBe(0);
  expect(stdout).toMatch(/^Sending on netmap:ena0: 1 tx and 1 rx rings, 1 thread$/m);
  expect(stdout).toMatch(
    /^10\.9\.0\.1:7 -> 10\.9\.0\.2:1234 \([0-9a-f:]{17} -> 02:00:00:00:00:09\)$/m,
  );
  expect(stdout).toMatch(/^bursts of 100, wait 0 s$/m);
  expect(stdout).toMatch(/^Sent 1000 packets 60000 bytes/m);
});

it.each([
  ["pkt-gen -i ena1 -r 5", "rx"],
  ["pkt-gen -i ena1 -r", "rx"],
  ["pkt-gen -i ena1 -f tx -r -R 1", "tx"],
])("%s", async (words, mode) => {
  const child = await startApp(words, device.url);
  expect(await child.waitForJson((line) => line.event === "ready")).toMatchObject({
    function: mode,
    interface: "netmap:ena1",
    threads: 1,
  });
  await child.stop();
});

it.each([
  "lb -i ena2 -p 12",
  "lb -i ena2 -p 64",
  "lb -i vale0:a -p 3",
  "pkt-gen -i ena2 -f rx -p 13",
  "bridge -i ena2 -i ena3 --queues 7",
  "bridge -i ena2 -i ena3 --queues 32",
])("case-W6 %s comes up", async (words) => {
  const child = await startApp(words, device.url);
  await child.waitForJson((line) => line.event === "ready");
  await child.stop();
});

it.each(["-i netmap:ena0 -i netmap:ena0", "-i ena0 -i netmap:ena0"])(
  "ux-S14 bridge %s says that the port is given twice",
  async (ports) => {
    const child = await runInside(["bridge", ...ports.split(" "), "--connect", device.url]);
    expect(child.exit?.code).toBe(2);
    expect(child.stderr).toMatch(/-i netmap:ena0 is given twice: as in netmap .* Name two/);
  },
);

it("case-W6 more threads than rings are refused before any port is open", async () => {
  const words = "pkt-gen -i ena2 -f rx -p 33";
  const { exit, stderr } = await runInside([...words.split(" "), "--connect", device.url]);
  expect([exit?.code, stderr]).toEqual([
    1,
    expect.stringMatching(/netmap:ena2-32: the port has no such rings: it has 32 to transmit/),
  ]);
});
