/**
 * A Xen guest that breaks the rules of xenstore and xenbus, on a real device with a small heap,
 * beside a neighbour of each personality. (fault-G3, G4, H1, H2, H4, H5, H6, H7, inv-I2, inv-I4)
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Op } from "../../shared/wire/catalogue.ts";
import { CloseCode, Limits } from "../../shared/wire/protocol.ts";
import { XenbusState } from "../../shared/xen/xenbus.ts";
import {
  XS_ERRORS,
  XsType,
  xsBytes,
  xsMessage,
  xsPathAndValue,
  xsStrings,
} from "../../shared/xen/xenstore.ts";
import { cases } from "../support/counts.ts";
import { HostileStage } from "../support/hostile-stage.ts";
import { eventually } from "../support/process.ts";
import { FREE_REFERENCE, RawXen, TX_RING, VIF } from "../support/raw-xen.ts";

/** Xen's defaults (xen: tools/xenstored/core.c). */
const QUOTA = { nodes: 1000, watches: 128, transactions: 10, nodeBytes: 2048 };
const OK = "OK\0";

let stage: HostileStage;

beforeAll(async () => {
  stage = await HostileStage.openMixed();
});

afterAll(async () => {
  await stage.close();
});

async function guest(use: (guest: RawXen, name: string) => Promise<void>): Promise<void> {
  const name = stage.name();
  const one = await RawXen.start(stage.port, name);
  try {
    await use(one, name);
  } finally {
    await one.raw.end("reset");
  }
}

/** Expects that another guest connects and works. */
async function othersAreServed(): Promise<void> {
  const other = await RawXen.connected(stage.port, stage.name());
  await other.works();
  await other.raw.end();
}

/** The answers to `count` requests, all of them sent before the first answer is read. */
async function answers(
  one: RawXen,
  count: number,
  ask: (n: number) => number,
): Promise<readonly string[]> {
  const ids = Array.from({ length: count }, (_, n) => ask(n));
  const all: string[] = [];
  for (const id of ids) all.push(await one.answer(id));
  return all;
}

const counted = (all: readonly string[], answer: string): number =>
  all.filter((one) => one === answer).length;

async function gone(name: string): Promise<void> {
  await eventually(`${name} to be gone`, async () => {
    const { nics } = await stage.status();
    return !nics.some((nic) => nic.name === name) || undefined;
  });
}

describe("quotas and permissions", () => {
  afterAll(() => stage.unharmed());

  it("fault-H1: nodes, watches, transactions and sizes end with Xen's errors, for this domain", async () => {
    await guest(async (one) => {
      // The names in one directory count towards its size, so there are ten directories.
      const write = (n: number) =>
        one.ask(XsType.WRITE, xsPathAndValue(`data/${n % 10}/n${n}`, xsBytes("value")));
      const written = await answers(one, QUOTA.nodes + 100, write);
      const refused = written.indexOf("ENOSPC");
      // The toolstack made a few nodes that count as the guest's.
      expect(refused).toBeGreaterThan(QUOTA.nodes - 50);
      expect(counted(written, OK)).toBe(refused);
      expect(counted(written, "ENOSPC")).toBe(written.length - refused);
      // Existing nodes can still be changed, and a freed node can be used again.
      expect(await one.write("data/0/n0", "other")).toBe(OK);
      expect(await one.write("data/new", "one more")).toBe("ENOSPC");
      expect(await one.rm("data/1/n1")).toBe(OK);
      expect(await one.write("data/new", "in its place")).toBe(OK);

      const watch = (n: number) => one.ask(XsType.WATCH, xsStrings("data", `t${n}`));
      const watched = await answers(one, QUOTA.watches + 20, watch);
      expect(counted(watched, OK)).toBe(QUOTA.watches);
      expect(counted(watched, "E2BIG")).toBe(20);

      const begin = () => one.ask(XsType.TRANSACTION_START, xsStrings(""));
      const begun = await answers(one, QUOTA.transactions + 5, begin);
      expect(counted(begun, "ENOSPC")).toBe(5);

      expect(await one.write("data/2/n2", "x".repeat(QUOTA.nodeBytes))).toBe("ENOSPC");
      await othersAreServed();
    });
  });

  it("fault-H1: big values, and copies of them in transactions, end at the domain's memory", async () => {
    await guest(async (one) => {
      const value = xsBytes("x".repeat(QUOTA.nodeBytes - 100));
      const seen = new Set<string>();
      const write = (tx: number) => (n: number) =>
        one.ask(XsType.WRITE, xsPathAndValue(`data/${n % 10}/b${n}`, value), tx);
      for (const answer of await answers(one, QUOTA.nodes, write(0))) seen.add(answer);
      for (let n = 0; n < QUOTA.transactions; n++) {
        const tx = Number.parseInt(await one.send(XsType.TRANSACTION_START, xsStrings("")), 10);
        for (const answer of await answers(one, 300, write(tx))) seen.add(answer);
      }
      expect([...seen].sort()).toEqual(["ENOMEM", "ENOSPC", OK]);
      await othersAreServed();
    });
  });

  it("fault-H1: a thousand nodes made and removed without end cost their domain its connection", async () => {
    const one = await RawXen.start(stage.port, stage.name());
    const deep = `data/${Array.from({ length: 900 }, () => "a").join("/")}`;
    const ask = (type: XsType, payload: Uint8Array) => [
      Op.XENSTORE,
      Buffer.from(xsMessage(type, 1, 0, payload)),
    ];
    const round = [
      ask(XsType.WRITE, xsPathAndValue(deep, xsBytes("1"))),
      ask(XsType.RM, xsStrings("data/a")),
    ];
    for (let n = 0; n < 100; n++) one.raw.batch(...Array.from({ length: 10 }, () => round).flat());
    const { code, reason } = await one.raw.closed;
    expect(code).toBe(CloseCode.PROTOCOL);
    expect(reason).toMatch(/more than 20 requests wait/);
  });

  it("fault-H2: the trees of others are neither read nor written nor heard of", async () => {
    await guest(async (victim) => {
      await victim.write("data/secret", "secret");
      await guest(async (one) => {
        const home = `/local/domain/${victim.domid}`;
        for (const path of [`${home}/data/secret`, `${home}/${VIF}/mac`, `${home}/nothing`]) {
          expect(await one.read(path)).toBe("EACCES");
          expect(await one.write(path, "mine")).toBe("EACCES");
          expect(await one.rm(path)).toBe("EACCES");
          const perms = xsStrings(path, `n${one.domid}`);
          expect(await one.send(XsType.SET_PERMS, perms)).toBe("EACCES");
        }
        expect(await one.write("/local/domain/0/mine", "x")).toBe("EACCES");
        expect(await one.watch("/", "all")).toBe(OK);
        expect(await victim.write("data/secret", "other")).toBe(OK);
        // The event for a node of its own shows that the guest would have received the other.
        expect(await one.write("data/own", "x")).toBe(OK);
        await one.raw.until("an event", () => one.events.some(({ path }) => path.endsWith("/own")));
        expect(one.events.filter(({ path }) => path.includes("secret"))).toEqual([]);
        for (const type of [XsType.INTRODUCE, XsType.RELEASE, XsType.CONTROL, XsType.SET_TARGET]) {
          expect(await one.send(type, xsStrings(String(victim.domid), "1", "1"))).toBe("EACCES");
        }
        expect(await victim.read("data/secret")).toBe("other");
      });
    });
  });
});

describe("messages", () => {
  afterAll(() => stage.unharmed());

  const header = (length: number, bytes: number) => {
    const message = Buffer.alloc(16 + bytes);
    message.writeUInt32LE(XsType.READ, 0);
    message.writeUInt32LE(length, 12);
    return message;
  };
  it.each<[string, Uint8Array]>([
    ["no bytes", Buffer.alloc(0)],
    ["half a header", Buffer.alloc(15)],
    ["a payload that is not there", header(10, 0)],
    ["more behind the payload", header(4, 8)],
    ["a payload over 4096 bytes", header(4097, 4096)],
    ["a payload of 4 GiB", header(2 ** 32 - 1, 16)],
    ["a message over the wire's bound", Buffer.alloc(Limits.XENSTORE_BYTES + 1)],
  ])("fault-H5: %s ends the connection with a sentence", async (_what, message) => {
    const one = await RawXen.start(stage.port, stage.name());
    one.raw.batch([Op.XENSTORE, message]);
    const { code, reason } = await one.raw.closed;
    expect(code).toBe(CloseCode.PROTOCOL);
    expect(reason).toMatch(/^xenstore: \w+/);
  });

  it("fault-H5: bad paths are refused as invalid, by every request", async () => {
    await guest(async (one) => {
      const bad = ["", "//", "/a//b", "/a/", "a/", "a b", "ä", "a\n", "*", `/${"x".repeat(3072)}`];
      const types = [XsType.READ, XsType.MKDIR, XsType.RM, XsType.DIRECTORY, XsType.GET_PERMS];
      for (const path of bad) {
        for (const type of types) {
          expect(await one.send(type, xsStrings(path)), `${type} ${path}`).toBe("EINVAL");
        }
        expect(await one.write(path, "x"), path).toBe("EINVAL");
        expect(await one.watch(path, "t"), path).toBe("EINVAL");
      }
      // Once without the final NUL, and once with a second string.
      expect(await one.send(XsType.READ, xsBytes("domid"))).toBe("EINVAL");
      expect(await one.send(XsType.READ, xsStrings("domid", "x"))).toBe("EINVAL");
      expect(await one.read("domid")).toBe(String(one.domid));
    });
  });

  it("property: random requests are answered, each once, with a known error or a reply", async () => {
    const { random } = stage;
    await guest(async (one) => {
      const errors: readonly string[] = XS_ERRORS;
      const seen = new Set<string>();
      for (let done = 0; done < cases(10_000); done++) {
        const type = random.oneIn(10) ? random.edgy(32) : random.below(30);
        if (type === XsType.WATCH_EVENT) continue;
        const paths = ["data", "data/a", "domid", `${VIF}/state`, "/", "", "@introduceDomain"];
        const strings = [random.pick(paths), random.pick(["t", "T", "n0", "0", "w1", ""])];
        const payload = random.oneIn(5)
          ? random.bytes(random.below(100))
          : xsStrings(...strings.slice(0, random.below(3)));
        const answer = await one.send(type, payload, random.oneIn(3) ? random.below(12) : 0);
        if (/^E[A-Z0-9]+$/.test(answer)) {
          seen.add(answer);
          expect(errors, stage.seeded(`type ${type}`)).toContain(answer);
        }
      }
      expect([...seen]).toEqual(expect.arrayContaining(["EINVAL", "ENOSYS", "EACCES", "ENOENT"]));
      await othersAreServed();
    });
  });

  it("requests without end whose replies nobody reads end the connection, and nothing else", async () => {
    await guest(async (one, name) => {
      await one.write("data/big", "x".repeat(2000));
      one.raw.ws.pause();
      const many = Array.from({ length: 500 }, (_, n) => [
        Op.XENSTORE,
        Buffer.from(xsMessage(XsType.READ, 1_000_000 + n, 0, xsStrings("data/big"))),
      ]);
      // 100 MB of replies.
      for (let n = 0; n < 100; n++) one.raw.batch(...many);
      await gone(name);
      await othersAreServed();
    });
  });
});

describe("watches", () => {
  afterAll(() => stage.unharmed());

  it("fault-G3: a node that changes 20,000 times is told once a batch, and its last value is there", async () => {
    await guest(async (one) => {
      expect(await one.watch("data/hot", "hot")).toBe(OK);
      const hot = () => one.events.filter(({ token }) => token === "hot").length;
      await one.raw.until("the first event", () => hot() === 1);
      const BATCHES = 1000;
      for (let n = 0; n < BATCHES; n++) {
        const write = (i: number) => [
          Op.XENSTORE,
          Buffer.from(
            xsMessage(XsType.WRITE, 2_000_000, 0, xsPathAndValue("data/hot", xsBytes(`${n} ${i}`))),
          ),
        ];
        one.raw.batch(...Array.from({ length: 20 }, (_, i) => write(i)));
        expect(await one.survived()).toBe(true);
        expect(hot(), `batch ${n}`).toBe(n + 2);
      }
      expect(await one.read("data/hot")).toBe(`${BATCHES - 1} 19`);
    });
  });

  it("fault-H4: a watcher that stops reading is cut, and the writer notices nothing", async () => {
    await guest(async (watcher, name) => {
      await guest(async (writer) => {
        const perms = [`n${writer.domid}`, "r0", `r${watcher.domid}`];
        expect(await writer.send(XsType.SET_PERMS, xsStrings("data", ...perms))).toBe(OK);
        const path = `/local/domain/${writer.domid}/data`;
        for (let n = 0; n < QUOTA.watches; n++) {
          expect(await watcher.watch(path, `a-token-of-some-length-${n}`)).toBe(OK);
        }
        watcher.raw.ws.pause();
        for (let round = 0; round < 4; round++) {
          const write = (n: number) =>
            writer.ask(XsType.WRITE, xsPathAndValue(`data/n${n}`, xsBytes(String(round))));
          const written = await answers(writer, 400, write);
          expect(counted(written, OK)).toBe(400);
        }
        await gone(name);
        expect(await writer.write("data/n0", "after")).toBe(OK);
        await othersAreServed();
      });
    });
    expect(stage.device.child.stderr).toMatch(/watch events wait and the domain does not read/);
  });
});

describe("xenbus", () => {
  afterAll(() => stage.unharmed());

  it.each<[string, string, string?]>([
    ["tx-ring-ref", "99999999999"],
    ["tx-ring-ref", "-1"],
    ["rx-ring-ref", "9.5"],
    ["rx-ring-ref", ""],
    ["rx-ring-ref", "4000000000"],
    ["rx-ring-ref", String(FREE_REFERENCE)],
    ["tx-ring-ref", "0"],
    ["event-channel", "0"],
    ["event-channel", "4095"],
    ["event-channel", "4096"],
    ["multi-queue-num-queues", "0"],
    ["multi-queue-num-queues", "1000000000"],
    ["multi-queue-num-queues", "2", "queue-0/tx-ring-ref"],
    ["request-rx-copy", "0"],
    ["feature-sg", "2"],
    ["ctrl-ring-ref", "77", "event-channel-ctrl"],
  ])(
    "fault-H7: %s = %j is refused by its name, and the vif connects with an honest one",
    async (key, value, named = key) => {
      const one = await RawXen.connected(stage.port, stage.name());
      const honest = one.keys[key];
      await one.write(`${VIF}/state`, String(XenbusState.CLOSED));
      await one.until(XenbusState.CLOSED);
      await one.offer({ ...one.keys, [key]: value });
      await one.until(XenbusState.CLOSING);
      const told = await one.raw.until("a fault", ([what]) => what === "fault");
      expect(told[2]).toMatch(/^XENBUS_(KEY|CONNECT)$/);
      expect(told[3]).toContain(named);
      if (honest === undefined) await one.rm(`${VIF}/${key}`);
      await one.reconnect();
      await one.works();
      await one.raw.end();
    },
  );

  it("fault-G4, H6: states that flap 1000 times a second end where an honest walk leads", async () => {
    const { random } = stage;
    const one = await RawXen.connected(stage.port, stage.name());
    const lines = () => stage.device.child.stderr.split("\n").length;
    const before = lines();
    const total = cases(20_000);
    for (let done = 0; done < total; done += 50) {
      const step = () => {
        const value = random.oneIn(20)
          ? "junk"
          : String(random.pick([0, 1, 1, 4, 4, 5, 6, 3, 7, 8]));
        const payload = xsPathAndValue(`${VIF}/state`, xsBytes(value));
        return [Op.XENSTORE, Buffer.from(xsMessage(XsType.WRITE, 3_000_000, 0, payload))];
      };
      // In single batches the device acts on each state. In one batch with many, the last state
      // counts.
      for (let n = 0; n < 30; n++) one.raw.batch(step());
      one.raw.batch(...Array.from({ length: 20 }, step));
      expect(await one.survived(), stage.seeded("closed")).toBe(true);
    }
    await one.reconnect();
    await one.works();
    // The log is bounded: a few lines of each kind per second.
    expect(lines() - before).toBeLessThan(1000);
    await one.raw.end();
  });

  it("fault-H8: a frontend whose directory goes away is closed, and freed", async () => {
    const one = await RawXen.connected(stage.port, stage.name());
    expect(await one.rm(VIF)).toBe(OK);
    // The device unmaps the rings, and the ring page can be granted again.
    await eventually("the rings to be let go", async () => {
      const { nics } = await stage.status();
      const nic = nics.find(({ name }) => name.startsWith("hostile")) as unknown as {
        nic: { connected: boolean; grants: { inUse: number } };
      };
      return (!nic.nic.connected && nic.nic.grants.inUse === 0) || undefined;
    });
    one.end(TX_RING);
    expect(await one.survived()).toBe(true);
    await one.raw.end();
  });
});
