/** The frontend's half of the protocol page: what a session accepts from its device, and when. */
import { afterEach, expect, test } from "vitest";
import type { Driver } from "../../frontend/driver.ts";
import { Ifnet } from "../../frontend/net/ifnet.ts";
import { Session } from "../../frontend/session.ts";
import { silentLogger } from "../../shared/log.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { CloseCode } from "../../shared/wire/protocol.ts";
import { column } from "../support/raw-frontend.ts";
import { RogueDevice, type RogueLink, WELCOME } from "../support/rogue-device.ts";

/** A driver that does nothing. */
function idleDriver(): Driver {
  const done = (): Promise<void> => Promise.resolve();
  const nothing = (): void => {};
  return {
    ifnet: new Ifnet("idle0", new Uint8Array(6), 1500),
    attach: done,
    up: done,
    down: done,
    linkLost: nothing,
    linkBack: done,
    suspend: done,
    settled: done,
    batchApplied: nothing,
    beforeFlush: nothing,
    tick: nothing,
    writableAgain: nothing,
    detach: done,
    counters: () => ({}),
    tellState: nothing,
  };
}

const open: (Session | RogueDevice)[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((each) => each.close()));
});

/** How the first connection to a device with this behaviour ends. */
async function ends(behave: (link: RogueLink) => void): Promise<{ code: number; reason: string }> {
  const { promise, resolve } = Promise.withResolvers<{ code: number; reason: string }>();
  const rogue = await RogueDevice.start((link, n) => {
    if (n > 0) return;
    link.ws.on("close", (code, reason) => resolve({ code, reason: reason.toString() }));
    link.ws.once("message", () => behave(link));
  });
  const session = new Session({
    connect: rogue.url,
    name: "victim",
    personality: "ena",
    driver: idleDriver,
    agent: "test",
    log: silentLogger,
  });
  open.push(session, rogue);
  // Some of these devices never send a welcome.
  session.start().catch(() => {});
  return await promise;
}

test.each<[string, unknown[]]>([
  ["write", column(Op.WRITE, [{ address: 4096, bytes: Buffer.alloc(4) }])],
  ["read", [Op.READ, 1, 0, 4096, 4]],
  ["mmio_read_reply", [Op.MMIO_READ_REPLY, 1, Buffer.alloc(4)]],
  ["interrupt", [Op.INTERRUPT, 0]],
  ["grant_use", [Op.GRANT_USE, Buffer.alloc(8)]],
  ["hypercall_reply", [Op.HYPERCALL_REPLY, 1, 0, Buffer.alloc(0)]],
  ["event", [Op.EVENT, 1]],
  ["xenstore", [Op.XENSTORE, Buffer.alloc(16)]],
  ["fault", [Op.FAULT, 0, "CODE", "text", 0, 0]],
  ["move", [Op.MOVE, "ws://127.0.0.1:1"]],
])("page-W4 %s of a device before its welcome ends the connection", async (what, transaction) => {
  expect(await ends((link) => link.say(transaction, [Op.WELCOME, WELCOME]))).toEqual({
    code: CloseCode.PROTOCOL,
    reason: `${what}: before welcome`,
  });
});

test("page-W5 a device that reads twice with one tag ends the connection", async () => {
  const read = [Op.READ, 5, 0, 4096, 4];
  expect(await ends((link) => link.say([Op.WELCOME, WELCOME], read, read))).toEqual({
    code: CloseCode.PROTOCOL,
    reason: "read: tag 5 was used before",
  });
});
