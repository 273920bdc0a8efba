/**
 * Devices that lie to our frontend. The frontend refuses invalid data, reports it, and continues or
 * gives up with a sentence. (fault-A9, C1, C2, D10, G2, inv-I2, inv-I5)
 */
import { createServer, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Op } from "../../shared/wire/catalogue.ts";
import { CloseCode } from "../../shared/wire/protocol.ts";
import { cases, SOAK } from "../support/counts.ts";
import { DeviceProcess } from "../support/device-process.ts";
import { type Child, eventually, startRingwire } from "../support/process.ts";
import { Random, seedOfRun } from "../support/random.ts";
import { column } from "../support/raw-frontend.ts";
import { RogueDevice, type RogueLink, WELCOME } from "../support/rogue-device.ts";

const random = new Random(seedOfRun());
const seeded = (what: string) => `${what} (RINGWIRE_SEED=${random.seed})`;

function frontend(url: string): Child {
  return startRingwire(["frontend", "--connect", url, "--name", "victim", "--json"]);
}

/** Expects one sentence on stderr and exit code 1, without a stack trace. */
async function givesUp(child: Child, sentence: RegExp): Promise<void> {
  const { code, signal } = await child.ended();
  expect([code, signal], child.said()).toEqual([1, null]);
  expect(child.stderr).toMatch(sentence);
  expect(child.stderr).not.toMatch(/^\s+at .*:\d+/m);
}

// Most of these tests wait for a frontend that waits, so they run at the same time.

describe.concurrent("a port that is no device's", () => {
  it.each<[string, (socket: Socket) => void, RegExp]>([
    ["closes at once", (s) => s.destroy(), /127\.0\.0\.1/],
    ["answers garbage", (s) => s.end(random.bytes(300)), /does not answer as HTTP/],
    [
      "answers HTML",
      (s) => s.end("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"),
      /answers HTTP 200/,
    ],
    [
      "redirects",
      (s) =>
        s.end("HTTP/1.1 302 Found\r\nLocation: ws://evil.example/\r\nContent-Length: 0\r\n\r\n"),
      /answers HTTP 302/,
    ],
    [
      "answers headers without end",
      (s) => s.write(`HTTP/1.1 200 OK\r\n${"X: y\r\n".repeat(10_000)}`),
      /127\.0\.0\.1/,
    ],
    [
      "accepts with the wrong key",
      (s) =>
        s.write(
          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
        ),
      /127\.0\.0\.1/,
    ],
    ["says nothing", () => {}, /did not answer/],
  ])("%s: one sentence, exit code 1", async (_what, answering, sentence) => {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      answering(socket);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    await givesUp(frontend(`ws://127.0.0.1:${port}`), sentence);
    server.close();
  });
});

describe.concurrent("a device that welcomes wrongly", () => {
  const wrong: [string, unknown[]][] = [
    ["of another version", [Op.WELCOME, { ...WELCOME, version: 2 }]],
    ["without a MAC", [Op.WELCOME, { ...WELCOME, mac: undefined }]],
    ["with a multicast MAC", [Op.WELCOME, { ...WELCOME, mac: "01:00:00:00:00:01" }]],
    ["with a name that is an escape sequence", [Op.WELCOME, { ...WELCOME, segment: "\u001b[2J" }]],
    ["with 10^9 queues", [Op.WELCOME, { ...WELCOME, queues: 1e9 }]],
    ["with no room for pushes", [Op.WELCOME, { ...WELCOME, pushBytes: 0 }]],
    ["with room for less than a frame", [Op.WELCOME, { ...WELCOME, pushBytes: 65_556 }]],
    ["with text", [Op.WELCOME, "welcome"]],
    ["by a write", column(Op.WRITE, [{ address: 4096, bytes: Buffer.alloc(4) }])],
    ["by an answer to no question", [Op.MMIO_READ_REPLY, 1, Buffer.alloc(4)]],
    ["by a hello", [Op.HELLO, {}]],
    ["by refusing it", [Op.REFUSE, "NAME_IN_USE", "because I say so"]],
  ];
  it.each(wrong)("%s", async (_what, transaction) => {
    const rogue = await RogueDevice.start((link) => {
      link.ws.on("message", () => link.say(transaction));
    });
    try {
      const child = frontend(rogue.url);
      // The write before `welcome` is refused, and then no `welcome` ever comes.
      await givesUp(child, /ringwire: .*\w/);
    } finally {
      await rogue.close();
    }
  });
});

describe.concurrent("a device that welcomes, and then", () => {
  /** A rogue that welcomes every frontend and answers each register read with zeros. */
  async function welcoming(then: (link: RogueLink) => void): Promise<RogueDevice> {
    return await RogueDevice.start((link) => {
      let welcomed = false;
      link.ws.on("message", (data: Buffer) => {
        link.hear(data);
        if (welcomed) return;
        welcomed = true;
        link.say([Op.WELCOME, WELCOME]);
        then(link);
      });
    });
  }

  it.each<[string, (link: RogueLink) => void]>([
    ["says no more", () => {}],
    ["welcomes again", (link) => link.say([Op.WELCOME, WELCOME])],
    ["sends random bytes", (link) => link.inject(random.bytes(100))],
    ["sends text", (link) => link.ws.send("text")],
    ["resets the connection", (link) => link.ws.terminate()],
    ["closes with a code of its own", (link) => link.ws.close(4999, "\u001b[2J")],
  ])("%s: the driver can't attach, and says so", async (_what, then) => {
    const rogue = await welcoming(then);
    try {
      await givesUp(frontend(rogue.url), /ringwire: .*\w/);
    } finally {
      await rogue.close();
    }
  });
});

describe("a device that lies to a NIC that runs", () => {
  let device: DeviceProcess;
  let rogue: RogueDevice;
  let victim: Child;

  beforeAll(async () => {
    device = await DeviceProcess.start();
    rogue = await RogueDevice.start((link) => {
      link.passOn(device.url);
    });
    victim = frontend(rogue.url);
    await victim.waitForJson((value) => value["event"] === "ready");
  });

  afterAll(async () => {
    await victim.stop();
    await rogue.close();
    await device.stop();
  });

  const link = async () =>
    await eventually(seeded("the frontend to come back"), () => {
      expect(victim.exit, seeded(victim.said())).toBeUndefined();
      return rogue.links.findLast((candidate) => candidate.open && candidate.windows.length > 4);
    });

  /** Waits until the driver runs, with the real device behind the rogue. */
  const recovered = async () =>
    await eventually(
      seeded("the NIC to run again"),
      async () => {
        expect(victim.exit, seeded(victim.said())).toBeUndefined();
        const { nics } = await device.status();
        const nic = nics.find((candidate) => candidate.name === "victim") as unknown as
          | { nic: { status: string; rx: { state: string }[] } }
          | undefined;
        return nic?.nic.status === "ready" && nic.nic.rx[0]?.state === "running" ? nic : undefined;
      },
      60_000,
    );

  it("reads outside what is mapped are refused, each, and named", async () => {
    const victimLink = await link();
    const outside = Array.from({ length: 500 }, () => random.edgy(48)).filter(
      (address) =>
        address >= 2 ** 32 ||
        !victimLink.windows.some((w) => address + 64 > w.address && address < w.address + w.length),
    );
    outside.forEach((address, i) => {
      victimLink.say([Op.READ, 1_000_000 + i, 0, address, 64]);
    });
    expect(await victimLink.flushed()).toBe(true);
    await eventually(
      "all replies",
      () => outside.every((_, i) => victimLink.replies.has(1_000_000 + i)) || undefined,
    );
    outside.forEach((address, i) => {
      const reply = victimLink.replies.get(1_000_000 + i)!;
      // A random address has the right generation in one of 65,535 cases at most.
      expect(reply.status, seeded(`read of 0x${address.toString(16)}`)).toBe(1);
      expect(reply.bytes).toHaveLength(0);
    });
    expect(victimLink.faults.size).toBeGreaterThan(0);
  });

  it("reads across a window's end give no byte", async () => {
    const victimLink = await link();
    for (const [i, { address, length }] of victimLink.windows.entries()) {
      victimLink.say([Op.READ, 2_000_000 + i, 0, address + length - 4, 8]);
    }
    expect(await victimLink.flushed()).toBe(true);
    const last = 2_000_000 + victimLink.windows.length - 1;
    await eventually("all replies", () => victimLink.replies.has(last) || undefined);
    for (const [i] of victimLink.windows.entries()) {
      expect(victimLink.replies.get(2_000_000 + i)!.status).toBe(1);
    }
  });

  it("property: random writes, interrupts and faults: it refuses, resets, and comes back", async () => {
    const total = SOAK ? 10_000 : 2000;
    for (let done = 0; done < total; ) {
      const victimLink = await link();
      for (; done < total && victimLink.open; done++) {
        victimLink.say(lie(victimLink));
        if (done % 50 === 49) await victimLink.flushed();
      }
    }
    await recovered();
    const named = new Set(rogue.links.flatMap((each) => [...each.faults.keys()]));
    expect([...named].join(), seeded("refusals without a name")).toMatch(/DMA_UNMAPPED/);
  });

  it("property: random bytes in place of batches: it connects again", async () => {
    const before = rogue.links.length;
    const total = Math.ceil(cases(1000) / 20);
    for (let done = 0; done < total; done++) {
      const victimLink = await link();
      // At least two bytes: one byte may be an empty batch, which is valid.
      victimLink.inject(random.bytes(random.below(300) + 2));
      await eventually("the end of that link", () => !victimLink.open || undefined);
    }
    expect(rogue.links.length).toBeGreaterThan(before);
    await recovered();
  });

  it("fault-G2: an interrupt storm and an event flood end in a NIC that runs", async () => {
    const victimLink = await link();
    const storm = Array.from({ length: 4000 }, (_, i) => [Op.INTERRUPT, i % 4]);
    for (let i = 0; i < 25; i++) victimLink.say(...storm);
    const floods = Array.from({ length: 1000 }, (_, i) => [Op.FAULT, 2, `F${i}`, "x", 0, 0]);
    for (let i = 0; i < 10; i++) victimLink.say(...floods);
    await victimLink.flushed();
    await recovered();
    // The frontend logs each kind of report a bounded number of times.
    expect(victim.stderr.split("\n").length).toBeLessThan(20_000);
  });

  it("fault-A9: a device that is stopped is noticed after 4 s of silence, and found again", async () => {
    await link();
    const from = victim.stdout.length;
    device.child.signal("SIGSTOP");
    try {
      await eventually(
        "the frontend to notice",
        () => victim.stdout.slice(from).includes("no sign of life for 4 s") || undefined,
      );
    } finally {
      device.child.signal("SIGCONT");
    }
    await eventually(
      "the link to be back",
      () => victim.stdout.slice(from).includes('"link-back"') || undefined,
    );
    await recovered();
  });

  /** One transaction that an honest device does not send, or not now. */
  function lie(to: RogueLink): unknown[] {
    switch (random.below(10)) {
      case 0:
        return [Op.INTERRUPT, random.below(256)];
      case 1:
        return [Op.FAULT, random.below(3), `CODE${random.below(300)}`, "lies", 0, 0];
      case 2:
        return [Op.READ, 2 ** 31 + random.below(2 ** 31), 0, random.edgy(48), random.edgy(16)];
      case 3: {
        // Rings: completions with any id, phase and length.
        const window = random.pick(to.windows);
        const bytes = random.bytes(Math.min(64, window.length));
        const at = random.below(window.length - bytes.length + 1);
        return column(Op.WRITE, [{ address: window.address + (at & ~7), bytes }]);
      }
      default:
        return column(Op.WRITE, [
          { address: random.edgy(48), bytes: random.bytes(random.below(2000) + 1) },
        ]);
    }
  }
});

describe.concurrent("close codes", () => {
  it.each([
    [CloseCode.REFUSED, "never again", true],
    [CloseCode.REPLACED, "another took the name", false],
    [CloseCode.GOING_AWAY, "the device stops", false],
  ])("%i: gives up only when told to", async (code, reason, final) => {
    const device = await DeviceProcess.start();
    const rogue = await RogueDevice.start((link) => {
      link.passOn(device.url);
    });
    const child = frontend(rogue.url);
    try {
      await child.waitForJson((value) => value["event"] === "ready");
      rogue.links[0]!.ws.close(code, reason);
      if (final) await givesUp(child, /never again/);
      else await child.waitForJson((value) => value["event"] === "link-back");
    } finally {
      await child.stop();
      await rogue.close();
      await device.stop();
    }
  });
});
