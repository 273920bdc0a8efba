/**
 * Devices that lie to a netfront process: in the store, in rings, in use counts, by events. The
 * process refuses invalid data, reports it, and continues or gives up with a sentence. (fault-F4,
 * G2, G4, H6, H7, XSA-391, XSA-396, inv-I2, inv-I5)
 */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { XenStatus } from "../../shared/status/device-status.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { Space } from "../../shared/wire/records.ts";
import { GRANT_PAGE_BYTES } from "../../shared/xen/grant.ts";
import { XsType, xsMessage, xsStrings } from "../../shared/xen/xenstore.ts";
import { cases } from "../support/counts.ts";
import { DeviceProcess } from "../support/device-process.ts";
import { type Child, eventually, sleep, startRingwire } from "../support/process.ts";
import { Random, seedOfRun } from "../support/random.ts";
import { column } from "../support/raw-frontend.ts";
import { type Lie, RogueBackend } from "../support/rogue-backend.ts";
import { RogueDevice } from "../support/rogue-device.ts";

const random = new Random(seedOfRun());
const seeded = (what: string) => `${what} (RINGWIRE_SEED=${random.seed})`;
/** A stack trace: an error that the program did not expect. */
const STACK = /^\s+at .*:\d+/m;

let device: DeviceProcess;

beforeAll(async () => {
  device = await DeviceProcess.start();
});

afterAll(async () => {
  await device.stop();
});

function frontend(url: string): Child {
  return startRingwire([
    "frontend",
    "--driver",
    "xen",
    "--connect",
    url,
    "--name",
    "victim",
    "--json",
  ]);
}

/** A rogue in front of the real device; `prepare` gets each backend before it sends anything. */
async function between(prepare: (backend: RogueBackend) => void) {
  const backends: RogueBackend[] = [];
  const rogue = await RogueDevice.start((link) => {
    const backend = new RogueBackend(link);
    backends.push(backend);
    prepare(backend);
    link.passOn(device.url);
  });
  return { rogue, backends };
}

/** Lies in the reply to every READ of a key with this ending. */
const about =
  (key: string, lie: Lie) =>
  (asked: { type: number; path: string }): Lie | undefined =>
    asked.type === XsType.READ && asked.path.endsWith(key) ? lie : undefined;

const long = "x".repeat(4096);

describe("a store that lies while the driver attaches", () => {
  it.each<[string, string, Lie, RegExp]>([
    ["no backend", "/backend", { error: "ENOENT" }, /backend/],
    ["an empty backend", "/backend", { value: "" }, /backend/],
    ["a backend that is no path", "/backend", { value: "no where" }, /backend/],
    ["a backend of 4096 bytes", "/backend", { value: `/${long.slice(1)}` }, /backend/],
    ["a backend-id that is no domain", "/backend-id", { value: "99999" }, /backend-id/],
    ["a backend-id that is no number", "/backend-id", { value: "zero" }, /backend-id/],
    ["no MAC", "/mac", { error: "ENOENT" }, /mac/],
    ["a multicast MAC", "/mac", { value: "01:00:00:00:00:01" }, /mac/],
    ["a MAC of 4096 bytes", "/mac", { value: long }, /mac/],
    ["an MTU of 9", "/mtu", { value: "9" }, /MTU/],
    ["no copying", "/feature-rx-copy", { value: "0" }, /feature-rx-copy/],
    ["an error of no name", "/mac", { error: "EWHATEVER" }, /EWHATEVER.*mac/],
    ["a backend that is closed", "/0/state", { value: "6" }, /its state is Closed/],
    [
      "an answer to no request",
      "/mac",
      { messages: [xsMessage(XsType.READ, 0xdead_beef, 0, xsStrings("x"))] },
      /request 3735928559 was never made/,
    ],
    ["a message that is none", "/mac", { messages: [new Uint8Array(3)] }, /no message header/],
    [
      "a watch event without a token",
      "/mac",
      { messages: [xsMessage(XsType.WATCH_EVENT, 0, 0, xsStrings("x"))] },
      /watch event is no path and token/,
    ],
  ])("%s: one sentence, exit code 1", async (_what, key, lie, sentence) => {
    const { rogue } = await between((backend) => {
      backend.lie = about(key, lie);
    });
    const child = frontend(rogue.url);
    try {
      const { code, signal } = await child.ended();
      expect([code, signal], child.said()).toEqual([1, null]);
      expect(child.stderr).toMatch(sentence);
      expect(child.stderr).not.toMatch(STACK);
    } finally {
      await child.stop();
      await rogue.close();
    }
  });

  it.each<[string, string, Lie]>([
    ["a billion queues", "/multi-queue-max-queues", { value: "1000000000" }],
    ["no queue", "/multi-queue-max-queues", { value: "0" }],
    ["features that are no numbers", "/feature-gso-tcpv4", { value: long }],
    ["an MTU of 4096 digits", "/mtu", { value: "9".repeat(4096) }],
  ])("%s: it makes do", async (_what, key, lie) => {
    const { rogue } = await between((backend) => {
      backend.lie = about(key, lie);
    });
    const child = frontend(rogue.url);
    try {
      await child.waitForJson((value) => value["event"] === "ready");
    } finally {
      await child.stop();
      await rogue.close();
    }
  });
});

it("hypercalls that nobody answers while it attaches: the frontend stops when it is told to", async () => {
  let asked = false;
  const { rogue } = await between((backend) => {
    const { link } = backend;
    const { onTold, tamper } = link;
    link.onTold = (transaction) => {
      onTold(transaction);
      asked ||= transaction[0] === Op.HYPERCALL;
    };
    link.tamper = (batch) => tamper!(batch.filter(([op]) => op !== Op.HYPERCALL_REPLY));
  });
  const child = frontend(rogue.url);
  try {
    await eventually("a hypercall", () => asked || undefined);
    child.signal("SIGTERM");
    const { code, signal } = await child.ended();
    expect([code, signal], child.said()).toEqual([0, null]);
    expect(child.stderr).not.toMatch(STACK);
  } finally {
    await child.stop();
    await rogue.close();
  }
});

describe("a device that lies to a netfront that runs", () => {
  let rogue: RogueDevice;
  let backends: RogueBackend[];
  let victim: Child;

  beforeAll(async () => {
    ({ rogue, backends } = await between(() => {}));
    victim = frontend(rogue.url);
    await victim.waitForJson((value) => value["event"] === "ready");
  });

  afterAll(async () => {
    expect(victim.stderr).not.toMatch(STACK);
    await victim.stop();
    await rogue.close();
  });

  const alive = () => expect(victim.exit, seeded(victim.said())).toBeUndefined();

  /** Waits until the driver runs, with the real device behind the rogue. */
  const running = async (): Promise<XenStatus> =>
    await eventually(
      () => seeded(`the NIC to run\n${victim.said()}`),
      async () => {
        alive();
        const { nics } = await device.status();
        const nic = nics.find(({ name }) => name === "victim")?.nic;
        if (nic?.personality !== "xen") return undefined;
        return nic.connected && nic.grants.granted > 256 ? nic : undefined;
      },
      60_000,
    );

  /** The backend of a link that is up and whose rings are known. */
  async function backend(): Promise<RogueBackend> {
    await running();
    return await eventually(seeded("a link with rings"), () => {
      alive();
      return backends.findLast(({ link, port }) => link.open && port !== 0);
    });
  }

  /** Breaks the link, and waits until the next one works. */
  async function anew(): Promise<void> {
    const n = backends.length;
    for (const { link } of backends) link.ws.terminate();
    await eventually(seeded("another link"), () => backends.length > n || undefined);
    await running();
  }

  /** Reads memory of the frontend. */
  let tag = 5_000_000;
  async function read(to: RogueBackend, space: number, address: number, length: number) {
    const mine = tag++;
    to.link.say([Op.READ, mine, space, address, length]);
    return await eventually(`the answer to read ${mine}`, () => to.link.replies.get(mine));
  }

  it("writes and reads outside what is granted touch nothing, and are named", async () => {
    const to = await backend();
    const rings = ["tx-ring-ref", "rx-ring-ref"].map((key) => to.grants.get(to.number(key))!);
    const pattern = Buffer.alloc(64, 0xa5);
    const write = (space: number, address: number) =>
      to.link.say(column(Op.WRITE, [{ address, bytes: pattern, space }]));
    for (const { reference, frame } of rings) {
      // The same page by its bus address, then a write that begins before it, in a page that is not
      // granted.
      write(Space.BUS, frame * GRANT_PAGE_BYTES + 2048);
      await eventually(
        "the end of another grant",
        () => !to.grants.has(reference - 1) || undefined,
      );
      write(Space.GRANT, reference * GRANT_PAGE_BYTES - 32);
    }
    const granted = new Set(to.grants.keys());
    for (let n = 0; n < 500; n++) {
      const reference = random.edgy(20);
      if (!granted.has(reference)) write(Space.GRANT, reference * GRANT_PAGE_BYTES);
      write(Space.BUS, Math.floor(random.edgy(48) / 64) * 64);
    }
    expect(await to.link.flushed()).toBe(true);
    // A backend may read ring pages only.
    for (const { reference, frame } of rings) {
      const { status, bytes } = await read(to, Space.GRANT, reference * GRANT_PAGE_BYTES, 4096);
      expect(status).toBe(0);
      const touched = Buffer.from(bytes).includes(pattern.subarray(0, 16));
      expect(touched, seeded(`reference ${reference}`)).toBe(false);
      expect((await read(to, Space.BUS, frame * GRANT_PAGE_BYTES, 64)).status).not.toBe(0);
      expect((await read(to, Space.GRANT, reference * 4096 + 4000, 97)).status).not.toBe(0);
    }
    // A backend may write a receive page, but not read it.
    const page = [...to.grants.values()].find((grant) => !rings.includes(grant))!;
    expect((await read(to, Space.GRANT, page.reference * 4096, 64)).status).not.toBe(0);
    const outside = [0, 1, 7, 40_000, 2 ** 32].filter((one) => !granted.has(one));
    for (const one of outside) {
      const { status, bytes } = await read(to, Space.GRANT, one * 4096, 16);
      expect(status, `reference ${one}`).not.toBe(0);
      expect(bytes).toHaveLength(0);
    }
    expect([...to.link.faults.keys()].join()).toMatch(/GRANT|DMA/);
    await anew();
  });

  it("fault-G2, XSA-391: an event storm is throttled, and work is done after it", async () => {
    const to = await backend();
    const storm = Array.from({ length: 4000 }, () => [Op.EVENT, to.port]);
    for (let n = 0; n < 25; n++) to.link.say(...storm);
    const everywhere = Array.from({ length: 4096 }, (_, port) => [Op.EVENT, port]);
    to.link.say(...everywhere);
    expect(await to.link.flushed()).toBe(true);
    await running();
    expect(victim.stderr.split("\n").length).toBeLessThan(200);
  });

  it("XSA-349: a storm of watch events makes one look after the other", async () => {
    const to = await backend();
    let reads = 0;
    to.lie = ({ type, path }) => {
      if (type === XsType.READ && path.endsWith("/state")) reads++;
      return undefined;
    };
    const event = Buffer.from(to.stateEvent());
    for (let n = 0; n < 20; n++) {
      to.link.say(...Array.from({ length: 1000 }, () => [Op.XENSTORE, event]));
    }
    expect(await to.link.flushed()).toBe(true);
    await running();
    expect(reads).toBeLessThan(1000);
  });

  /** Lets the backend's state read Closed, and waits until the driver has closed. */
  async function closed(to: RogueBackend): Promise<void> {
    to.lie = about("/0/state", { value: "6" });
    to.store(to.stateEvent());
    await eventually(
      () => seeded(`the driver to close\n${victim.said()}`),
      () => {
        alive();
        return to.keys.get("state") === "6" || undefined;
      },
    );
  }

  it.each([
    ["closed, and offered again by one that never connects", ["6", "2", "2"]],
    ["closing, closed, and gone", ["5", "6", "0"]],
    ["back to the beginning", ["2", "1", "0", "4"]],
    ["states that are none", ["9", "junk", "", "-1", "4294967296"]],
    ["reconfigured", ["7", "8", "3"]],
  ])("fault-H6: a backend that is %s: the process lives, and says so", async (_what, states) => {
    const to = await backend();
    for (const state of states) {
      if (state === "6") await closed(to);
      else {
        to.lie = about("/0/state", { value: state });
        to.store(to.stateEvent());
      }
      await sleep(100);
      alive();
    }
    // The time that a backend may take for a step.
    if (states[1] === "2") await victim.waitFor(/the backend did not connect|its state is/, 20_000);
    alive();
    await anew();
  });

  it("fault-G4: states that flap, with copying taken back in between", async () => {
    const to = await backend();
    for (let n = 0; n < cases(1000); n++) {
      const state = random.pick(["6", "2", "1", "5", "4", "0", "x"]);
      const offers = random.oneIn(2) ? { value: "0" } : undefined;
      to.lie = (asked) =>
        about("/0/state", { value: state })(asked) ??
        (asked.path.endsWith("/feature-rx-copy") ? offers : undefined);
      to.store(to.stateEvent());
      if (n % 10 === 9) await sleep(10);
      if (!to.link.open) break;
    }
    alive();
    await anew();
  });

  it("fault-H8: a store that refuses everything while the NIC connects anew", async () => {
    for (const error of ["EACCES", "ENOENT", "EIO", "EAGAIN", "ENOSPC"]) {
      const to = await backend();
      await closed(to);
      to.lie = (asked) =>
        about("/0/state", { value: "2" })(asked) ??
        (asked.type === XsType.WATCH ? undefined : { error });
      to.store(to.stateEvent());
      await sleep(200);
      alive();
      await anew();
    }
  });

  it("a store that lies more at each attempt to connect anew", async () => {
    const to = await backend();
    await closed(to);
    // The first attempt fails at once, the others one or two ticks later.
    const lies = [
      about("/feature-rx-copy", { value: "0" }),
      about("/backend", { value: `/${long.slice(1)}` }),
      about("/backend-id", { value: long }),
      about("/backend", { error: "ENOENT" }),
    ];
    for (const [n, worse] of lies.entries()) {
      const from = victim.stderr.length;
      to.lie = (asked) => about("/0/state", { value: "2" })(asked) ?? worse(asked);
      if (n === 0) to.store(to.stateEvent());
      await eventually(
        () => `attempt ${n} to fail\n${victim.said()}`,
        () => {
          alive();
          return /it is tried again/.test(victim.stderr.slice(from)) || undefined;
        },
      );
    }
    await anew();
  });

  it("hypercalls that are refused while it connects anew", async () => {
    const to = await backend();
    await closed(to);
    const honest = to.link.tamper!;
    to.link.tamper = (batch) =>
      honest(
        batch.map((t) => (t[0] === Op.HYPERCALL_REPLY ? [t[0], t[1], 28, Buffer.alloc(0)] : t)),
      );
    to.lie = about("/0/state", { value: "2" });
    to.store(to.stateEvent());
    await sleep(500);
    alive();
    await anew();
  });

  it("XSA-396: use counts that lie are named, and what is in use is not used again", async () => {
    const to = await backend();
    const uses = Buffer.alloc(8 * 1000);
    for (let n = 0; n < 1000; n++) {
      const reference = random.oneIn(3) ? random.edgy(32) : random.pick([...to.grants.keys()]);
      uses.writeUInt32LE(reference, 8 * n);
      uses.writeInt16LE(random.pick([1, -1, 32_767, -32_768, 5]), 8 * n + 4);
      uses.writeInt16LE(random.pick([0, 1, -1, 32_767]), 8 * n + 6);
    }
    to.link.say([Op.GRANT_USE, uses]);
    expect(await to.link.flushed()).toBe(true);
    // A pong arrives before a report that waits for the end of the turn, or of the second.
    await eventually(
      seeded("a lie with a name"),
      () => to.link.faults.has("DMA_GRANT") || undefined,
    );
    await anew();
  });

  it("property: responses, indexes, events and uses of every kind: it lives and comes back", async () => {
    const total = cases(20_000);
    for (let done = 0; done < total; ) {
      const to = await backend();
      for (let n = 0; n < 200 && done < total && to.link.open; n++, done++) {
        to.link.say(lie(to));
        if (n % 50 === 49) await to.link.flushed();
      }
      alive();
      await anew();
    }
  });

  /** One transaction that an honest backend does not send, or not now. */
  function lie(to: RogueBackend): unknown[] {
    const ring = to.number(random.pick(["tx-ring-ref", "rx-ring-ref"])) * GRANT_PAGE_BYTES;
    const word = () => {
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32LE(random.oneIn(2) ? random.below(300) : random.edgy(32));
      return bytes;
    };
    switch (random.below(8)) {
      case 0:
        return [Op.EVENT, random.oneIn(2) ? to.port : random.below(4096)];
      case 1:
      case 2:
      case 3: {
        const bytes = random.bytes(8 * (random.below(8) + 1));
        const address = ring + 64 + 8 * random.below(400);
        return column(Op.WRITE, [{ address, bytes, space: Space.GRANT }]);
      }
      case 4:
        return column(Op.WRITE, [
          { address: ring + random.pick([0, 4, 8, 12]), bytes: word(), space: Space.GRANT },
        ]);
      case 5: {
        const uses = Buffer.alloc(8);
        uses.writeUInt32LE(random.pick([...to.grants.keys(), 0, 9999]), 0);
        uses.writeInt16LE(random.pick([1, -1]), 4);
        return [Op.GRANT_USE, uses];
      }
      case 6:
        return [Op.XENSTORE, Buffer.from(to.stateEvent())];
      default: {
        const reference = random.pick([...to.grants.keys()]);
        const address = reference * GRANT_PAGE_BYTES + random.below(4000);
        return column(Op.WRITE, [{ address, bytes: random.bytes(96), space: Space.GRANT }]);
      }
    }
  }
});
