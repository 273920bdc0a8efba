/** Peers that send wrong transactions first, twice, or too early. (fault-B4, B6, B10, A6) */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Op } from "../../shared/wire/catalogue.ts";
import { CloseCode } from "../../shared/wire/protocol.ts";
import { HostileStage } from "../support/hostile-stage.ts";
import { column, mmio, RawFrontend } from "../support/raw-frontend.ts";

let stage: HostileStage;

beforeAll(async () => {
  stage = await HostileStage.open();
});

afterAll(async () => {
  await stage.close();
});

const good = { version: 1, personality: "ena", name: "stranger", instance: "i" };

/** The code in `refuse` that a hello gets, and how the connection ends. */
async function refusal(hello: unknown): Promise<{ refused: string; code: number; text: string }> {
  const raw = await RawFrontend.connect(stage.port);
  raw.batch([Op.HELLO, hello]);
  const { code } = await raw.closed;
  const told = raw.heard.told.find(([name]) => name === "refuse");
  expect(raw.heard.told.map(([name]) => name)).not.toContain("welcome");
  return { refused: String(told?.[1] ?? ""), code, text: String(told?.[2] ?? "") };
}

describe("hello", () => {
  afterAll(() => stage.unharmed());

  it.each([0, 2, 65_535])(
    "fault-K13 of version %i is refused, naming both versions",
    async (version) => {
      const { refused, code, text } = await refusal({ ...good, version });
      expect([refused, code]).toEqual(["VERSION", CloseCode.REFUSED]);
      expect(text).toMatch(new RegExp(`version 1 .*version ${version};`));
    },
  );

  it.each(["xen2", "ENA", "constructor", "toString", "hasOwnProperty", "valueOf"])(
    "for the personality %s is refused, naming those there are",
    async (personality) => {
      const { refused, code, text } = await refusal({ ...good, personality });
      expect([refused, code]).toEqual(["PERSONALITY", CloseCode.REFUSED]);
      expect(text).toContain("ena");
    },
  );

  it.each<[string, object]>([
    ["an empty name", { name: "" }],
    ["a name of 64 characters", { name: "n".repeat(64) }],
    ["a name of 3000 characters", { name: "n".repeat(3000) }],
    ["a name with a line break", { name: "a\r\nX-Evil: 1" }],
    ["a name with a path", { name: "../../etc/passwd" }],
    ["a name with NUL", { name: "a\0b" }],
    ["a name with an escape sequence", { name: "a\u001b[2J" }],
    ["a name in other letters", { name: "ｅｎａ０" }],
    ["a name of one dot", { name: "." }],
    ["a name named __proto__", { name: "__proto__" }],
    ["a name that is a number", { name: 5 }],
    ["a name that is a map", { name: { a: 1 } }],
    ["a version that is text", { version: "1" }],
    ["a version that is NaN", { version: Number.NaN }],
    ["a version that is negative", { version: -1 }],
    ["no queues", { queues: 0 }],
    ["10^9 queues", { queues: 1_000_000_000 }],
    ["1.5 queues", { queues: 1.5 }],
    ["a multicast MAC", { mac: "01:00:5e:00:00:01" }],
    ["the broadcast MAC", { mac: "ff:ff:ff:ff:ff:ff" }],
    ["a MAC of zeros", { mac: "00:00:00:00:00:00" }],
    ["half a MAC", { mac: "02:00:00" }],
    ["an MTU of 0", { mtu: 0 }],
    ["a time of silence that is negative", { deadAfter: -1 }],
    ["a time of silence of an hour and a second", { deadAfter: 3601 }],
    ["a time of silence that is text", { deadAfter: "off" }],
    ["an instance of 1000 characters", { instance: "i".repeat(1000) }],
    ["an agent of 1000 characters", { agent: "a".repeat(1000) }],
  ])("with %s is refused", async (_what, wrong) => {
    const { refused, code, text } = await refusal({ ...good, ...wrong });
    expect([refused, code]).toEqual(["WIRE_HELLO", CloseCode.REFUSED]);
    expect(text).toMatch(/^hello: \w+/);
  });

  it.each<[string, unknown]>([
    ["text", "hello"],
    ["a list", [1, 2]],
    ["nothing", null],
    ["a number", 7],
  ])("that is %s is refused", async (_what, hello) => {
    const { refused, code } = await refusal(hello);
    expect([refused, code]).toEqual(["WIRE_HELLO", CloseCode.REFUSED]);
  });

  it("without a name is refused", async () => {
    const { name: _name, ...nameless } = good;
    expect((await refusal(nameless)).refused).toBe("WIRE_HELLO");
  });

  it("fault-B10 with a name that would take a regular expression long is refused at once", async () => {
    const { refused } = await refusal({ ...good, name: `${"a.".repeat(1900)}!` });
    expect(refused).toBe("WIRE_HELLO");
  });

  it("with a key __proto__ ends the connection and changes no object", async () => {
    const raw = await RawFrontend.connect(stage.port);
    const key = Buffer.from("__proto__");
    const map = [0x81, 0xa0 | key.length, ...key, 0x81, 0xa5, ...Buffer.from("admin"), 0xc3];
    raw.send(Buffer.from([0x91, 0x92, Op.HELLO, ...map]));
    expect((await raw.closed).code).toBe(CloseCode.PROTOCOL);
  });

  it("fault-B5 with unknown keys is welcome: a newer peer says more", async () => {
    const raw = await RawFrontend.join(stage.port, stage.name(), { colour: "green", list: [1] });
    expect(await raw.survived()).toBe(true);
    await raw.end();
  });

  it.each<[string, number | undefined, number | undefined]>([
    ["an older frontend, which names none", undefined, undefined],
    ["less than the device waits anyway", 3, undefined],
    ["a minute", 60, 60],
    ["an hour", 3600, 600],
    ["for ever", 0, 600],
  ])("fault-K13, fault-K3 the time of silence: %s", async (_what, deadAfter, agreed) => {
    const more = deadAfter === undefined ? {} : { deadAfter };
    const raw = await RawFrontend.join(stage.port, stage.name(), more);
    const [, welcome] = raw.heard.told.find(([name]) => name === "welcome")!;
    expect((welcome as { deadAfter?: number }).deadAfter).toBe(agreed);
    await raw.end();
  });

  it("said twice ends the connection", async () => {
    const raw = await RawFrontend.join(stage.port, stage.name());
    raw.hello("again");
    expect(await raw.closed).toEqual({ code: CloseCode.PROTOCOL, reason: "hello: sent twice" });
  });

  it("said twice in one batch leaves no NIC behind", async () => {
    const raw = await RawFrontend.connect(stage.port);
    const hello = [Op.HELLO, { ...good, name: stage.name() }];
    raw.batch(hello, hello);
    expect((await raw.closed).reason).toBe("hello: sent twice");
  });

  it("for the MAC of another NIC is refused and names whose it is", async () => {
    const { nics } = await stage.status();
    const [pair] = nics as unknown as { name: string; mac: string }[];
    const { refused, text } = await refusal({ ...good, mac: pair!.mac });
    expect(refused).toBe("MAC_IN_USE");
    expect(text).toContain(pair!.name);
  });

  it("attack-S5 of a name in use is refused, of either personality, and hurts nobody", async () => {
    const name = stage.name();
    const first = await RawFrontend.join(stage.port, name);
    for (const personality of ["ena", "xen"]) {
      const hello = { ...good, name, personality, instance: "another process" };
      const { refused, text } = await refusal(hello);
      expect(refused).toBe("NAME_IN_USE");
      expect(text).toMatch(/another NIC, whose frontend is alive; the next free name is "[^"]+"/);
    }
    expect(await first.survived()).toBe(true);
    await first.end();
  });

  it("attack-S5 of a name in use takes it over when it says so; the first is told", async () => {
    const name = stage.name();
    const first = await RawFrontend.join(stage.port, name);
    const second = await RawFrontend.join(stage.port, name, {
      instance: "another process",
      takeOver: true,
    });
    const { code, reason } = await first.closed;
    expect(code).toBe(CloseCode.REPLACED);
    expect(reason).toContain(name);
    expect(await second.survived()).toBe(true);
    await second.end();
  });

  it("of one name from a hundred at once leaves one of them", async () => {
    const name = stage.name();
    const all = await Promise.all(
      Array.from({ length: 100 }, () => RawFrontend.join(stage.port, name)),
    );
    await Promise.all(all.slice(0, 10).map((raw) => raw.flushed()));
    const { nics } = await stage.status();
    expect(nics.filter((nic) => nic.name === name)).toHaveLength(1);
    await Promise.all(all.map((raw) => raw.end("reset")));
  });
});

describe("fault-B6 work before hello", () => {
  afterAll(() => stage.unharmed());

  it.each<[string, unknown[]]>([
    ["window", [Op.WINDOW, 4096, 4096]],
    ["end_window", [Op.END_WINDOW, 4096]],
    ["write", column(Op.WRITE, [{ address: 4096, bytes: Buffer.alloc(4) }])],
    ["push", column(Op.PUSH, [{ address: 4096, bytes: Buffer.alloc(4) }])],
    ["read_reply", [Op.READ_REPLY, 1, 0, Buffer.alloc(4)]],
    ["mmio_write", mmio(0x54, 1)],
    ["mmio_read", [Op.MMIO_READ, 1, 0, 0, 4]],
    ["fault", [Op.FAULT, 0, "code", "text", 0, 0]],
  ])("%s ends the connection", async (what, transaction) => {
    const raw = await RawFrontend.connect(stage.port);
    raw.batch(transaction);
    expect(await raw.closed).toEqual({
      code: CloseCode.PROTOCOL,
      reason: `${what}: before hello`,
    });
  });

  it.each<[string, unknown[]]>([
    ["welcome", [Op.WELCOME, {}]],
    ["refuse", [Op.REFUSE, "CODE", "text"]],
    ["read", [Op.READ, 1, 0, 0, 4]],
    ["mmio_read_reply", [Op.MMIO_READ_REPLY, 1, Buffer.alloc(4)]],
    ["interrupt", [Op.INTERRUPT, 1]],
  ])("%s is the device's to say, before and after hello", async (what, transaction) => {
    const reason = `${what} does not travel in this direction`;
    const before = await RawFrontend.connect(stage.port);
    before.batch(transaction);
    expect(await before.closed).toEqual({ code: CloseCode.PROTOCOL, reason });
    const after = await RawFrontend.join(stage.port, stage.name());
    after.batch(transaction);
    expect(await after.closed).toEqual({ code: CloseCode.PROTOCOL, reason });
  });

  it("fault-A6: a connection that never says hello is cut after 10 s", async () => {
    const raw = await RawFrontend.connect(stage.port);
    expect(await raw.closed).toEqual({
      code: CloseCode.PROTOCOL,
      reason: "no hello within 10 s",
    });
  });
});

describe("heartbeat and progress", () => {
  afterAll(() => stage.unharmed());

  it("a flood of heartbeats ends the connection", async () => {
    const raw = await RawFrontend.join(stage.port, stage.name());
    raw.batch(...Array.from({ length: 200 }, (_, i) => [Op.HEARTBEAT, i + 1, 0]));
    const { code, reason } = await raw.closed;
    expect(code).toBe(CloseCode.LIMIT);
    expect(reason).toMatch(/^heartbeat: too many/);
  });

  it("an echo from the future measures nothing", async () => {
    const name = stage.name();
    const raw = await RawFrontend.join(stage.port, name);
    raw.batch([Op.HEARTBEAT, 0, Number.MAX_SAFE_INTEGER]);
    expect(await raw.survived()).toBe(true);
    const { nics } = await stage.status();
    const nic = nics.find((n) => n.name === name) as unknown as { link: { roundTripMs: number } };
    expect(nic.link.roundTripMs).toBeGreaterThanOrEqual(0);
    expect(nic.link.roundTripMs).toBeLessThan(60_000);
    await raw.end();
  });

  it.each([
    ["past what was sent", [[Op.PROGRESS, 1_000_000_000]]],
    [
      "that goes backwards",
      [
        [Op.PROGRESS, 20],
        [Op.PROGRESS, 10],
      ],
    ],
  ])("progress %s ends the connection", async (_what, transactions) => {
    const raw = await RawFrontend.join(stage.port, stage.name());
    raw.batch(...transactions);
    const { code, reason } = await raw.closed;
    expect(code).toBe(CloseCode.PROTOCOL);
    expect(reason).toMatch(/^progress: /);
  });

  it("a peer that never reports progress is fed to its limit, and no further", async () => {
    const raw = await RawFrontend.connect(stage.port, { alive: false });
    const name = stage.name();
    raw.hello(name);
    await raw.until("welcome", ([what]) => what === "welcome");
    // Register reads are answered beyond the limit, so that control never waits behind data.
    for (let i = 0; i < 2000; i++) raw.batch([Op.MMIO_READ, i, 0, 0, 256]);
    await raw.until("the last answer", ([what, tag]) => what === "mmioReadReply" && tag === 1999);
    expect(raw.open).toBe(true);
    await raw.end();
  });
});
