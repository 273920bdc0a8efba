/** When a session tries again, and its messages. A relay plays the device's host. */

import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket, connect as tcp } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import type { Device } from "../../device/index.ts";
import { EnaDriver } from "../../frontend/ena/index.ts";
import { Session, type SessionOptions } from "../../frontend/session.ts";
import {
  explainDial,
  isWorthAnotherTry,
  refused,
  SessionError,
} from "../../frontend/session-error.ts";
import type { SessionState } from "../../shared/status/frontend-status.ts";
import { ConnectError } from "../../shared/transport/websocket.ts";
import { testDevice } from "../support/device-server.ts";
import { eventually } from "../support/process.ts";
import { RawFrontend } from "../support/raw-frontend.ts";
import { RecordingLog } from "../support/recording-log.ts";

const devices: Device[] = [];
const sessions: Session[] = [];
const relays: Server[] = [];
const sockets = new Set<Socket>();

afterEach(async () => {
  for (const session of sessions.splice(0)) await session.close();
  for (const opened of devices.splice(0)) await opened.close();
  for (const relay of relays.splice(0)) relay.close();
  for (const socket of sockets) socket.destroy();
  sockets.clear();
});

async function device(port = 0, segmentName = "lan0"): Promise<number> {
  const opened = await testDevice({
    listen: { port },
    segments: { name: segmentName },
    maxQueues: 1,
  });
  devices.push(opened);
  return opened.port;
}

/** Passes a connection on. */
function through(socket: Socket, port: number): void {
  const far = tcp({ port, host: "127.0.0.1" });
  sockets.add(far);
  far.on("error", () => socket.destroy());
  socket.on("close", () => far.destroy());
  socket.pipe(far).pipe(socket);
}

/** A host that calls `first` for this many connections, and passes the others on to `port`. */
async function relay(port: number, times: number, first: (socket: Socket) => void) {
  const seen = { connections: 0 };
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    if (seen.connections++ < times) {
      first(socket);
      return;
    }
    through(socket, port);
  });
  relays.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { port: (server.address() as AddressInfo).port, seen };
}

const busy = (socket: Socket): void => {
  socket.once("data", () => {
    socket.end(
      "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: text/plain\r\n" +
        "Content-Length: 12\r\n\r\nno place now",
    );
  });
};

function session(port: number, more: Partial<SessionOptions> = {}) {
  const log = new RecordingLog();
  const states: [SessionState, string][] = [];
  const one = new Session({
    connect: `127.0.0.1:${port}`,
    name: "ena0",
    personality: "ena",
    agent: "test",
    log,
    driver: (context) => new EnaDriver(context),
    onState: (state, reason) => states.push([state, reason]),
    ...more,
  });
  sessions.push(one);
  return { session: one, log, states };
}

describe("a first connection", () => {
  it("attack-S3 waits for a place, and says the true reason once", async () => {
    const host = await relay(await device(), 3, busy);
    const { session: one, log } = session(host.port);
    await one.start();
    expect(host.seen.connections).toBe(4);
    expect(log.warnings).toEqual([
      `127.0.0.1:${host.port} has no place for another NIC now (HTTP 503): no place now; trying again`,
    ]);
  });

  it("attack-S3 that is cut without a word is tried again a few times", async () => {
    const host = await relay(await device(), 3, (socket) => socket.destroy());
    const { session: one, log } = session(host.port);
    await one.start();
    expect(log.warnings).toHaveLength(1);
    expect(log.warnings[0]).toMatch(/as many connections as it may/);
  });

  it("attack-S3 that is always cut ends, and names both reasons that there may be", async () => {
    const host = await relay(0, Number.POSITIVE_INFINITY, (socket) => socket.destroy());
    await expect(session(host.port).session.start()).rejects.toMatchObject({
      code: "HUNG_UP",
      message: expect.stringMatching(/as many connections as it may.*wss:/),
    });
    expect(host.seen.connections).toBe(6);
  });

  it("ux-S5 waits for a device that is not there yet, when it is asked to", async () => {
    const free = createServer().listen(0, "127.0.0.1");
    await once(free, "listening");
    const { port } = free.address() as AddressInfo;
    await new Promise((resolve) => free.close(resolve));
    await expect(session(port).session.start()).rejects.toMatchObject({ code: "ECONNREFUSED" });

    const { session: one, log } = session(port, { waitForDevice: true });
    const started = one.start();
    await eventually("the first try", () => (log.warnings.length > 0 ? true : undefined));
    expect(log.warnings).toEqual([`nothing listens at 127.0.0.1:${port}; trying again`]);
    await device(port);
    await started;
    expect(one.state).toBe("attached");
  });

  it("ends at once when it is closed while it waits", async () => {
    const host = await relay(0, Number.POSITIVE_INFINITY, busy);
    const { session: one, log } = session(host.port);
    const started = expect(one.start()).rejects.toMatchObject({ code: "CLOSED" });
    await eventually("the first try", () => (log.warnings.length > 0 ? true : undefined));
    await one.close();
    await started;
  });

  it("connects no more when it is closed while it dials", async () => {
    const port = await device();
    const { promise: held, resolve } = Promise.withResolvers<Socket>();
    const host = await relay(port, 1, resolve);
    const { session: one, states } = session(host.port);
    const started = expect(one.start()).rejects.toMatchObject({ code: "CLOSED" });
    const socket = await held;
    await one.close();
    const left = once(socket, "close");
    through(socket, port);
    await left;
    await started;
    expect(one.link).toBeUndefined();
    expect(states).toEqual([["closed", "the frontend stops"]]);
  });

  it("attack-S5 ends when another NIC has its name, and takes the next when any will do", async () => {
    const port = await device();
    await session(port).session.start();
    await expect(session(port).session.start()).rejects.toMatchObject({
      code: "REFUSED_NAME_IN_USE",
    });
    const { session: second, log } = session(port, { numbered: true });
    await second.start();
    expect(second.agreed.name).toBe("ena1");
    expect(second.driver.ifnet.name).toBe("ena1");
    expect(log.infos).toContain("the device has a NIC ena0 already, so this one is ena1 there");
  });
});

describe("a NIC that was up", () => {
  it("ux-P1 and was numbered asks for that number again, however often the device restarts", async () => {
    const port = await device();
    await session(port).session.start();
    const { session: second, states } = session(port, { numbered: true });
    await second.start();
    const mac = second.agreed.mac;
    for (let time = 1; time <= 3; time++) {
      await devices.pop()!.close();
      await device(port);
      await eventually("the link", () => (second.reconnects === time ? true : undefined));
      expect(second.agreed).toMatchObject({ name: "ena1", mac });
    }
    expect(states.filter(([state]) => state === "closed")).toEqual([]);
  });

  it("connects no more when it is closed while it dials again", async () => {
    const port = await device();
    const { promise: held, resolve } = Promise.withResolvers<Socket>();
    const open: Socket[] = [];
    const host = await relay(port, 2, (socket) => {
      if (open.push(socket) === 1) through(socket, port);
      else resolve(socket);
    });
    const { session: one } = session(host.port);
    await one.start();
    open[0]!.destroy();
    const socket = await held;
    await one.close();
    const left = once(socket, "close");
    through(socket, port);
    await left;
    expect([one.link, one.state]).toEqual([undefined, "closed"]);
  });

  it("keeps its address where another segment would compute another", async () => {
    const port = await device();
    const { session: one } = session(port);
    await one.start();
    const { mac } = one.agreed;
    await devices.pop()!.close();
    await device(port, "lan1");
    await eventually("the link", () => (one.reconnects === 1 ? true : undefined));
    expect(one.agreed).toMatchObject({ name: "ena0", mac, segment: "lan1" });
  });

  it("attack-S5 that took its name takes it once: two would do so for ever", async () => {
    const port = await device();
    const { session: one, log } = session(port, { takeOver: true });
    await one.start();
    const thief = await RawFrontend.join(port, "ena0", { instance: "thief", takeOver: true });
    await eventually("a refusal", () =>
      log.warnings.some((line) => /another NIC.*trying again/.test(line)) ? true : undefined,
    );
    expect(await thief.survived()).toBe(true);
    await thief.end();
    await eventually("the link", () => (one.reconnects === 1 ? true : undefined));
  });

  it("attack-S5 comes back for its name and its address when the stranger has left", async () => {
    const port = await device();
    const { session: victim, log } = session(port);
    await victim.start();
    const { mac } = victim.agreed;
    for (let time = 1; time <= 2; time++) {
      const thief = await RawFrontend.join(port, "ena0", { instance: "thief", takeOver: true });
      const told = () => log.warnings.filter((line) => /another NIC.*trying again/.test(line));
      await eventually("refusals", () => (told().length >= time ? true : undefined));
      await thief.end();
      await eventually("the link", () => (victim.reconnects === time ? true : undefined));
      expect(victim.agreed).toMatchObject({ name: "ena0", mac });
    }
    expect(log.errors).toEqual([]);
  });
});

describe("why a dial failed", () => {
  const page = "<!DOCTYPE HTML>\n<html lang='en'><head><title>404</title></head></html>";

  it("ux-S6 is one sentence, whatever page a stranger's server sends", () => {
    const say = (body: string): string =>
      explainDial(new ConnectError("HTTP_STATUS", body, 404), "ws://h:1/nic").message;
    expect(say(page)).toBe("h:1 answers HTTP 404, so it is not a ringwire device's port");
    expect(say("no such page\nline 2")).toBe(
      "h:1 answers HTTP 404, so it is not a ringwire device's port: no such page",
    );
    expect(say("x".repeat(5000)).length).toBeLessThan(250);
  });

  it.each([
    "ECONNREFUSED",
    "ENOTFOUND",
    "ETIMEDOUT",
    "ECONNRESET",
    "HPE_INVALID_CONSTANT",
    "WEBSOCKET",
    "EPROTO",
  ])("ux-S19 (%s) names no flag and no command: programs show it, too", (code) => {
    for (const url of ["ws://h:7700/nic", "wss://h:7700/nic"]) {
      const { message } = explainDial(new ConnectError(code, "it failed"), url);
      expect(message).not.toMatch(/--|ringwire [a-z]+ |npx/);
    }
  });

  it("attack-S3 a place that the device may have later is worth another try, a stranger is not", () => {
    const worth = (failure: SessionError, wait = false) => isWorthAnotherTry(failure, 1, wait);
    const full = explainDial(new ConnectError("HTTP_STATUS", "", 503), "ws://h:1/nic");
    for (const failure of [full, refused("NO_PLACE", ""), refused("STOPPING", "")]) {
      expect(worth(failure), failure.code).toBe(true);
    }
    const codes = ["HTTP_STATUS", "WEBSOCKET"].map((code) => new SessionError(code, ""));
    for (const failure of [...codes, refused("VERSION", ""), refused("NAME_IN_USE", "")]) {
      expect([worth(failure), worth(failure, true)], failure.code).toEqual([false, false]);
    }
    const absent = new SessionError("ECONNREFUSED", "");
    expect([worth(absent), worth(absent, true)]).toEqual([false, true]);
  });

  it("attack-S5 for a NIC that was up, what may pass is not final", () => {
    const passing = ["NAME_IN_USE", "MAC_IN_USE", "NO_PLACE", "STOPPING"];
    const failures = [
      ...passing.map((code) => refused(code, "")),
      new SessionError("ECONNREFUSED", ""),
    ];
    expect(failures.filter(({ again }) => again === "never")).toEqual([]);
    for (const code of ["VERSION", "PERSONALITY", "WIRE_HELLO", "UNHEARD_OF", "constructor"]) {
      expect(refused(code, "").again, code).toBe("never");
    }
  });

  it("Retry-After is kept, and bounded where it is read", () => {
    const error = new ConnectError("HTTP_STATUS", "", 503, 2000);
    expect(explainDial(error, "ws://h:1/nic")).toMatchObject({
      code: "NO_PLACE",
      retryAfterMs: 2000,
    });
  });
});
