/** Messages that begin and do not end, on many connections at once. (attack-S7) */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CloseCode, Limits } from "../../shared/wire/protocol.ts";
import { HostileStage } from "../support/hostile-stage.ts";
import { eventually } from "../support/process.ts";
import { RawSocket, wsFrame } from "../support/raw-socket.ts";

const MEMORY_BYTES = 32 << 20;
/** A quarter of it is for unfinished messages. */
const MESSAGES_BYTES = MEMORY_BYTES / 4;
const ATTACKERS = 40;
/** What the process may hold beside the messages: garbage of the refused ones, and its sockets. */
const RSS_SLACK_BYTES = 64 << 20;
/** The code of a connection that ended without a close frame (RFC 6455, 7.4.1). */
const ABNORMAL = 1006;

let stage: HostileStage;

beforeAll(async () => {
  stage = await HostileStage.openMixed("--memory-limit", `${MEMORY_BYTES}`);
});

afterAll(async () => {
  await stage.close();
});

describe("unfinished messages", () => {
  afterAll(() => stage.unharmed());

  const whole = Buffer.alloc(Limits.MESSAGE_BYTES - 1);
  it.each([
    ["frames without their last byte", wsFrame(whole).subarray(0, -1)],
    ["fragments without the last", wsFrame(whole, { fin: false })],
  ])("attack-S7: %s stop at the memory of all NICs, and the oldest go first", async (_, begun) => {
    const before = (await stage.status()).nicMemory;
    const rss = stage.device.rssBytes();
    const sockets: RawSocket[] = [];
    for (let i = 0; i < ATTACKERS; i++) {
      const socket = await RawSocket.upgraded(stage.port);
      socket.write(begun);
      sockets.push(socket);
    }
    const codes: number[] = [];
    const ended = sockets.map((socket) => socket.closeCode().then((code) => codes.push(code)));
    const room = Math.floor(MESSAGES_BYTES / begun.length);
    const refusals = ATTACKERS - room;
    await eventually("all but the last to be refused", () => codes.length >= refusals || undefined);
    const { refused, messageBytes } = (await stage.status()).nicMemory;
    expect(messageBytes).toBeLessThanOrEqual(MESSAGES_BYTES);
    expect(stage.device.rssBytes() - rss).toBeLessThan(MESSAGES_BYTES + RSS_SLACK_BYTES);
    await stage.neighbour.flows();
    const told = codes.filter((code) => code === CloseCode.NO_MEMORY).length;
    expect(told).toBeGreaterThan(0);
    expect(refused["messages"]! - before.refused["messages"]!).toBeGreaterThanOrEqual(told);
    // On a slow machine, some have not said hello in time, or are cut before they read the code.
    const others: readonly number[] = [CloseCode.NO_MEMORY, CloseCode.PROTOCOL, ABNORMAL];
    expect(others).toEqual(expect.arrayContaining(codes));
    for (const socket of sockets) socket.socket.destroy();
    await Promise.all(ended);
    await eventually("the memory to be free", async () => {
      const { messageBytes } = (await stage.status()).nicMemory;
      return messageBytes === before.messageBytes || undefined;
    });
    expect(stage.device.child.stderr).toContain("a message that has not ended");
  });
});
