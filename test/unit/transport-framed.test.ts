/** FramedTransport on a stream in memory, and the buffers of many streams. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { MemoryAccount, MemoryBudget } from "../../shared/memory-budget.ts";
import { FramedTransport, type Masking } from "../../shared/transport/framed.ts";
import { FRAME_ROOM, frameInPlace, Opcode } from "../../shared/transport/frames.ts";
import { ReadBuffer } from "../../shared/transport/read-buffer.ts";
import type { ByteStream, StreamOwner } from "../../shared/transport/stream.ts";
import { CloseCode } from "../../shared/wire/protocol.ts";

const KEY_AT = 2;

/** A stream whose peer is the test. Writes are done at once, unless `holds` is set. */
class HandStream implements ByteStream {
  readonly written: Uint8Array[] = [];
  readonly calls: string[] = [];
  unsentBytes = 0;
  receivedBytes = 0;
  holds = false;
  #owner: StreamOwner | undefined;

  write(bytes: Uint8Array, at: number, length: number, done: () => void): void {
    this.written.push(bytes.slice(at, at + length));
    if (!this.holds) done();
  }

  read(owner: StreamOwner): void {
    this.#owner = owner;
  }

  stopReading(): void {
    this.calls.push("stopReading");
  }

  dropWaiting(): void {
    this.calls.push("dropWaiting");
  }

  end(): void {
    this.calls.push("end");
  }

  destroy(): void {
    this.calls.push("destroy");
  }

  /** Bytes of the peer. Returns whether the owner is behind. */
  arrive(bytes: Uint8Array): boolean {
    const { input } = this.#owner!;
    this.receivedBytes += bytes.length;
    input.room();
    input.bytes.set(bytes, input.end);
    input.end += bytes.length;
    return this.again();
  }

  again(): boolean {
    return this.#owner!.received();
  }

  /** Bytes that the owner keeps. */
  get kept(): number {
    const { start, end } = this.#owner!.input;
    return end - start;
  }
}

/** `payload` behind the room for a header. */
function roomFor(payload: Uint8Array | readonly number[]): Uint8Array {
  const bytes = new Uint8Array(FRAME_ROOM + payload.length);
  bytes.set(payload, FRAME_ROOM);
  return bytes;
}

const KEY = 0x04030201;

/** A masked frame of a client. */
function frame(
  payload: Uint8Array | readonly number[],
  opcode: number = Opcode.BINARY,
  isWhole = true,
): Uint8Array {
  const bytes = roomFor(payload);
  const header = frameInPlace(bytes, FRAME_ROOM, payload.length, KEY, opcode);
  const whole = bytes.subarray(FRAME_ROOM - header);
  if (!isWhole) whole[0]! &= 0x7f;
  return whole;
}

function open(masking: Masking = "none", account?: MemoryAccount) {
  const stream = new HandStream();
  const transport = new FramedTransport(stream, masking, new Uint8Array(0), account);
  const messages: number[][] = [];
  const ends: number[] = [];
  transport.onMessage = (bytes, at, length) => messages.push([...bytes.subarray(at, at + length)]);
  const send = (done: () => void) => transport.send(roomFor([0]), FRAME_ROOM, 1, done);
  transport.onClose = (code) => ends.push(code);
  return { stream, transport, messages, ends, send };
}

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe("a transport of frames", () => {
  it("mutant-G1 is behind when its time ends before its input", () => {
    const { stream, transport } = open();
    const lengths: number[] = [];
    // Each message takes longer than a turn.
    transport.onMessage = (_bytes, _at, length) => {
      lengths.push(length);
      vi.advanceTimersByTime(100);
    };
    const bytes = [10_000, 20_000, 30_000].map((length) => frame(new Uint8Array(length)));
    expect(stream.arrive(Buffer.concat(bytes))).toBe(true);
    expect(lengths).toEqual([10_000]);
    expect(stream.again()).toBe(true);
    expect(stream.again()).toBe(false);
    expect(lengths).toEqual([10_000, 20_000, 30_000]);
  });

  it("answers pings without end, if its answers are read", () => {
    const { stream, ends } = open();
    for (let i = 0; i < 1000; i++) stream.arrive(frame([i & 0xff], Opcode.PING));
    expect([stream.written.length, ends]).toEqual([1000, []]);
    stream.holds = true;
    for (let i = 0; i < 65; i++) stream.arrive(frame([], Opcode.PING));
    expect(ends).toEqual([1008]);
  });

  it("answers a close with its code and ends at once, and is cut later", () => {
    const { stream, ends } = open();
    stream.arrive(frame([0x03, 0xe8], Opcode.CLOSE));
    expect([...stream.written[0]!]).toEqual([0x88, 2, 0x03, 0xe8]);
    expect([stream.calls, ends]).toEqual([["end"], [1000]]);
    vi.advanceTimersByTime(1000);
    expect(stream.calls).toEqual(["end", "destroy"]);
  });

  it("cuts a peer that does not answer a close", () => {
    const { stream, transport } = open();
    transport.close(1000, "enough");
    vi.advanceTimersByTime(4999);
    expect(stream.calls).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(stream.calls).toEqual(["destroy"]);
  });

  it("leaves no timer behind when it is aborted", () => {
    const { stream, transport } = open();
    transport.close(1000, "enough");
    transport.abort(1000, "enough");
    expect([stream.calls, vi.getTimerCount()]).toEqual([["destroy"], 0]);
  });

  it("fault-J1 an abort drops what waits, and leaves time for its code behind the rest", () => {
    const { stream, transport } = open();
    stream.unsentBytes = 1;
    transport.abort(4003, "too much waits");
    expect(Buffer.from(stream.written[0]!).readUInt16BE(2)).toBe(4003);
    expect(stream.calls).toEqual(["dropWaiting", "stopReading", "end"]);
    vi.advanceTimersByTime(5000);
    expect(stream.calls.at(-1)).toBe("destroy");
  });

  it("attack-S7 charges a message that has not ended, until it ends or the link does", () => {
    const budget = new MemoryBudget(64 << 20);
    const whole = frame(new Uint8Array(100_000));
    const piece = frame(new Uint8Array(100_000), Opcode.BINARY, false);
    const held: number[] = [];
    for (const [begin, end] of [
      [whole.subarray(0, -1), whole.subarray(-1)],
      [piece, frame([], Opcode.CONTINUATION)],
      [piece, frame([], 3)],
    ] as const) {
      const { stream, messages } = open("none", new MemoryAccount(budget));
      stream.arrive(begin);
      held.push(budget.heldBy.messages);
      expect(messages).toEqual([]);
      stream.arrive(end);
      expect(budget.heldBy.messages).toBe(0);
    }
    expect(Math.min(...held)).toBeGreaterThanOrEqual(100_000);
    const { stream, transport, ends } = open("none", new MemoryAccount(budget));
    stream.arrive(whole.subarray(0, -1));
    transport.abort(4003, "");
    expect(budget.heldBy.messages).toBe(0);
    expect(ends).toEqual([]);
  });

  it("attack-S7 refuses a message for which there is no memory, by code", () => {
    const { stream, ends } = open("none", new MemoryAccount(new MemoryBudget(100_000)));
    const message = frame(new Uint8Array(20_000));
    // What every stream may hold is not charged.
    stream.arrive(message.subarray(0, 10_000));
    expect(ends).toEqual([]);
    stream.arrive(message.subarray(10_000, -1));
    expect(ends).toEqual([CloseCode.NO_MEMORY]);
    expect([stream.calls, stream.kept]).toEqual([["stopReading", "end"], 0]);
  });

  it("draws a key for each frame", () => {
    const { stream, send } = open("random");
    const count = 3000;
    for (let i = 0; i < count; i++) send(() => {});
    const keys = stream.written.map((sent) => Buffer.from(sent).readUInt32LE(KEY_AT));
    // Of 3,000 random keys hardly two are equal.
    expect(new Set(keys).size).toBeGreaterThan(count - 10);
  });

  it("mutant-G8 has no use for a message that can't be sent any more", () => {
    const { stream, transport, send } = open();
    transport.close(1000, "enough");
    let isDone = false;
    send(() => {
      isDone = true;
    });
    expect([isDone, stream.written.length]).toEqual([true, 1]);
  });

  it("keeps nothing of what follows a broken rule", () => {
    const { stream, ends } = open();
    stream.arrive(frame([1], 3));
    expect(ends).toEqual([1002]);
    for (let i = 0; i < 10; i++) stream.arrive(new Uint8Array(1000));
    expect(stream.kept).toBe(0);
  });

  it("joins one message in pieces after the other", () => {
    const { stream, messages } = open();
    for (let i = 0; i < 3; i++) {
      stream.arrive(frame([i, 1], Opcode.BINARY, false));
      stream.arrive(frame([i, 2], Opcode.CONTINUATION));
    }
    expect(messages).toEqual([0, 1, 2].map((i) => [i, 1, i, 2]));
  });
});

describe("ReadBuffer", () => {
  /** More than the streams that may keep a shared buffer. */
  const STREAMS = 40;
  /** Held bytes for which a stream may keep a shared buffer. */
  const LARGE = 20 * 1024;

  it("mutant-B1 few of many streams that wait keep a large buffer", () => {
    const buffers = Array.from({ length: STREAMS }, () => new ReadBuffer());
    let large = 0;
    for (const buffer of buffers) {
      large = Math.max(large, buffer.room());
      buffer.bytes.fill(7, buffer.end, buffer.end + LARGE);
      buffer.end += LARGE;
      buffer.settle();
    }
    const held = buffers.reduce((all, { bytes }) => all + bytes.length, 0);
    expect(held).toBeLessThan(16 * 2 * large + STREAMS * 3 * LARGE);
    for (const buffer of buffers) {
      expect(buffer.bytes[buffer.start + LARGE - 1]).toBe(7);
      buffer.clear();
    }
  });
});
