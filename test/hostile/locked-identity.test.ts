/**
 * Claims to the name, the address and the traffic of a NIC, at a device that wants tokens. The
 * neighbours are in the segment red. The claims come from a stranger, and from a client with all
 * rights in the segment blue: nothing seen, nothing taken, nobody thrown out.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Nic, openNic } from "../../frontend/index.ts";
import { parseMac } from "../../shared/net/ethernet.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { DeviceProcess } from "../support/device-process.ts";
import { HostileStage } from "../support/hostile-stage.ts";
import { startRingwire } from "../support/process.ts";
import { packBatch, RawFrontend } from "../support/raw-frontend.ts";
import { RawSocket, upgradeRequest, wsFrame } from "../support/raw-socket.ts";
import type { DeviceStatus } from "../support/status.ts";

const REFUSED = /^HTTP\/1.1 4(?:01|29) /;
/** Local experimental EtherType (IEEE 802), as in the frames of the neighbours. */
const ETHER_TYPE = [0x88, 0xb5];
const SPOOFED = 200;

let stage: HostileStage;
/** Addresses of the neighbours. */
let macs: Record<string, string>;

beforeAll(async () => {
  stage = await HostileStage.openLocked();
  const { nics } = await stage.status();
  macs = Object.fromEntries(nics.map(({ name, mac }) => [name, mac]));
});

afterAll(async () => {
  await stage.close();
});

/** The neighbours have their names, addresses, connections and frames. */
async function whole(): Promise<void> {
  await stage.unharmed();
  const { nics, captures } = await stage.status();
  expect(Object.fromEntries(nics.map(({ name, mac }) => [name, mac]))).toEqual(macs);
  expect(captures.running).toBe(0);
}

/** A hello that claims all that a NIC of the neighbours has. */
const claim = (personality: string) => ({
  ...{ version: 1, personality, name: "pair-a", instance: "thief" },
  ...{ mac: macs["pair-a"], takeOver: true },
});

/** The whole answer to a request over HTTP. */
async function answerTo(line: string, token?: string, body?: string): Promise<string> {
  const raw = await RawSocket.connect(stage.port);
  const lines = [
    ...[`${line} HTTP/1.1`, "Host: 127.0.0.1"],
    ...(token === undefined ? [] : [`Authorization: Bearer ${token}`]),
    ...(body === undefined
      ? []
      : ["Content-Type: application/json", `Content-Length: ${body.length}`]),
  ];
  raw.write(`${lines.join("\r\n")}\r\n\r\n${body ?? ""}`);
  await raw.ended();
  return raw.received.toString("latin1");
}

const MIGRATE = JSON.stringify({ nic: "red/pair-a", to: "ws://127.0.0.1:9" });

describe("a stranger", () => {
  afterAll(whole);

  it.each(["ena", "xen"])("attack-S5, fault-L1 gets no name: of %s", async (personality) => {
    for (const lines of [{}, { Authorization: "Bearer rw_red_guess" }]) {
      const raw = await RawSocket.connect(stage.port);
      // The hello stands behind the upgrade already, and is not looked at.
      raw.write(upgradeRequest(stage.port, lines));
      raw.write(wsFrame(packBatch([[Op.HELLO, claim(personality)]])));
      expect(await raw.response()).toMatch(REFUSED);
      await raw.ended();
    }
  });

  it.each<[string, string?]>([
    ["GET /capture?source=any&ring=1"],
    ["GET /capture?source=red/pair-a"],
    ["GET /status"],
    ["GET /metrics"],
    ["GET /addresses?segment=red"],
    ["GET /events?after=0"],
    ["POST /migrate", MIGRATE],
    ["POST /ticket", '{"path":"/capture"}'],
    ["GET /nope"],
  ])("attack-S5, fault-L1 sees and moves nothing by %s", async (line, body) => {
    for (const token of [undefined, "rw_red_guess"]) {
      const answer = await answerTo(line, token, body);
      expect(answer).toMatch(REFUSED);
      expect(answer).not.toMatch(/pair-|red|blue/);
      for (const mac of Object.values(macs)) expect(answer).not.toContain(mac);
    }
  });
});

describe("a client of another segment", () => {
  afterAll(whole);

  const join = (name: string, hello: object = {}): Promise<RawFrontend> =>
    RawFrontend.join(stage.port, name, hello, stage.lock!.blue);

  const welcomeOf = ({ heard }: RawFrontend): unknown =>
    heard.told.find(([what]) => what === "welcome")?.[1];

  /** How a connection ends whose hello is refused. */
  async function refusal(name: string, hello: object = {}): Promise<string> {
    const raw = await RawFrontend.connect(stage.port, { token: stage.lock!.blue });
    raw.hello(name, hello);
    const { code, reason } = await raw.closed;
    expect(raw.heard.told.map(([what]) => what)).not.toContain("welcome");
    const told = raw.heard.told.find(([what]) => what === "refuse");
    return `${code} ${told?.[1] ?? ""} ${reason}`;
  }

  it.each(["ena", "xen"])(
    "attack-S5, fault-L5 has the name and the address of a neighbour in its own segment: %s",
    async (personality) => {
      const twin = await join("pair-a", claim(personality));
      const { mac } = claim(personality);
      expect(welcomeOf(twin)).toMatchObject({ name: "pair-a", mac, segment: "blue" });
      expect(await twin.flushed()).toBe(true);
      await twin.end();
    },
  );

  it.each(["constructor", "toString", "hasOwnProperty", "valueOf", "red", "blue"])(
    "attack-S14 may be called %s",
    async (name) => {
      const odd = await join(name);
      expect(await odd.survived()).toBe(true);
      expect(welcomeOf(odd)).toMatchObject({ name, segment: "blue" });
      await odd.end();
    },
  );

  it.each(["__proto__", "..", "-x", "any", "all", "switch", "red/pair-a", ""])(
    'attack-S14 may not be called "%s"',
    async (name) => {
      expect(await refusal(name)).toMatch(/^4001 WIRE_HELLO hello: name: /);
    },
  );

  it.each(["red", "constructor", "toString", "hasOwnProperty"])(
    "fault-L5 joins no segment %s",
    async (segment) => {
      expect(await refusal("x", { segment })).toMatch(/^4001 SEGMENT .*; there is blue$/);
      expect(await refusal("pair-a", { ...claim("ena"), segment })).toMatch(
        /^4001 SEGMENT .*; there is blue$/,
      );
    },
  );

  it("attack-S4, fault-L5 takes no traffic with the address of a neighbour", async () => {
    const open = (name: string): Promise<Nic> =>
      openNic({
        ...{ connect: stage.device.url, name, readerFrames: 4 * SPOOFED },
        credentials: { token: stage.lock!.blue },
      });
    await using spoofer = await open("spoofer");
    await using listener = await open("listener");
    const [a = "", b = ""] = [macs["pair-a"], macs["pair-b"]];
    // To the other neighbour, to all, and to the segment's own: from the address of a neighbour.
    for (let i = 0; i < SPOOFED; i++) {
      for (const to of [b, "ff:ff:ff:ff:ff:ff", listener.status().mac]) {
        const last = i === SPOOFED - 1 && to === listener.status().mac;
        const frame = Buffer.alloc(60, last ? "end" : "spoofed");
        frame.set([...parseMac(to), ...parseMac(a), ...ETHER_TYPE]);
        await spoofer.send(frame);
      }
    }
    let others = 0;
    for await (const bytes of listener) {
      const text = Buffer.from(bytes).toString("latin1", 14);
      if (text.includes("endend")) break;
      if (!text.startsWith("spoofed")) others++;
    }
    expect(others).toBe(0);
    const page = await fetch(`${stage.device.url}/addresses?segment=blue`, {
      headers: { authorization: `Bearer ${stage.lock!.blue}` },
    });
    // The segment blue has learned it there. Red is as it was.
    expect(await page.text()).toContain(a);
  });

  it("attack-S5, fault-L5 moves no neighbour", async () => {
    for (const nic of ["red/pair-a", "pair-a"]) {
      const body = JSON.stringify({ nic, to: "ws://127.0.0.1:9" });
      const answer = await answerTo("POST /migrate", stage.lock!.blue, body);
      expect(answer).toMatch(/^HTTP\/1.1 404 /);
    }
  });

  it("attack-S5, fault-L5 captures nothing of the neighbours' traffic", async () => {
    const raw = await RawSocket.connect(stage.port);
    const shown = `Authorization: Bearer ${stage.lock!.blue}`;
    const line = "GET /capture?source=any&source=switch&ring=1 HTTP/1.1";
    raw.write([line, "Host: 127.0.0.1", shown, "", ""].join("\r\n"));
    expect(await raw.response()).toMatch(/^HTTP\/1.1 200 /);
    await stage.neighbour.flows();
    // A NIC of blue comes and goes: the capture has run until now.
    const own = await join("taken");
    expect(await own.survived()).toBe(true);
    await own.end();
    const text = () => raw.received.toString("latin1");
    await expect.poll(text).toContain("blue/taken");
    expect(text()).not.toMatch(/pair-|red\//);
    for (const mac of Object.values(macs)) {
      expect(raw.received.includes(Buffer.from(parseMac(mac)))).toBe(false);
    }
    raw.socket.destroy();
  });
});

it.each(["ena", "xen"])(
  "attack-S5 a %s NIC comes back although its name and address are taken in another segment first",
  async (driver) => {
    const lock = stage.lock!;
    let own = await DeviceProcess.startWith({ token: lock.watcher }, ...lock.flags);
    const { port } = own;
    await using victim = startRingwire(
      ["frontend", "--connect", own.url, "--name", "victim", "--driver", driver, "--json"],
      { env: { RINGWIRE_TOKEN: lock.red } },
    );
    const { mac } = await victim.waitForJson<{ mac: string }>((line) => line["event"] === "ready");
    // The device is started again on the same port, and the thief joins before the victim runs on.
    victim.signal("SIGSTOP");
    own.child.signal("SIGKILL");
    await own.child.exited;
    const listen = ["--listen", `127.0.0.1:${port}`];
    own = await DeviceProcess.startWith({ token: lock.watcher }, ...lock.flags, ...listen);
    try {
      // A stranger is not even asked.
      await expect(RawFrontend.join(port, "victim", { mac })).rejects.toThrow(/ 4(01|29)/);
      const thief = await RawFrontend.join(port, "victim", { mac, takeOver: true }, lock.blue);
      expect(nicsOf(await own.status())).toEqual([`blue/victim ${mac}`]);
      victim.signal("SIGCONT");
      await victim.waitForJson((line) => line["event"] === "link-back");
      expect(await thief.survived()).toBe(true);
      expect(nicsOf(await own.status())).toEqual([`blue/victim ${mac}`, `red/victim ${mac}`]);
      expect(victim.exit).toBeUndefined();
      await thief.end();
    } finally {
      await own.stop();
    }
  },
);

const nicsOf = ({ nics }: DeviceStatus): string[] =>
  nics.map(({ name, segment, mac }) => `${segment}/${name} ${mac}`).sort();
