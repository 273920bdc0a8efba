/** Outstanding reads: their number is bounded, whoever abandons them. */
import { afterEach, expect, test, vi } from "vitest";
import type { DmaError } from "../../device/dma/host-memory.ts";
import { LinkMemory } from "../../device/dma/link-memory.ts";
import { silentLogger } from "../../shared/log.ts";
import type { Received } from "../../shared/wire/catalogue.ts";
import { Link, type LinkOwner } from "../../shared/wire/link.ts";
import { CloseCode, Limits } from "../../shared/wire/protocol.ts";
import { busAddress, NO_ADDRESS, RecordType, Space } from "../../shared/wire/records.ts";
import { settle } from "../support/fake-host.ts";
import { loopbackPair } from "../support/loopback.ts";
import { RecordingSink } from "../support/recording-sink.ts";
import { TestClock } from "../support/test-clock.ts";

const BYTES = Uint8Array.of(1, 2, 3, 4);

class Owner implements LinkOwner {
  readonly sink = new RecordingSink();
  batchApplied(): void {}
  writableAgain(): void {}
  closed(): void {}
  broken(error: unknown): void {
    throw error;
  }
}

const links: Link[] = [];
afterEach(() => {
  for (const link of links.splice(0)) link.close(CloseCode.NORMAL, "");
});

function memory() {
  const [near, far] = loopbackPair();
  const frontend = new Owner();
  const link = new Link(near, new Owner(), silentLogger);
  links.push(link, new Link(far, frontend, silentLogger));
  const asked = (): number[] =>
    frontend.sink.told.flatMap(([what, tag]) => (what === "read" ? [tag as number] : []));
  return { memory: new LinkMemory(link, Limits.PUSH_BYTES), asked };
}

/** The error codes of failed reads, and the bytes of the others. */
function readMany(from: LinkMemory, count: number): Promise<(string | Uint8Array)[]> {
  return Promise.all(
    Array.from({ length: count }, (_, i) =>
      from
        .read(Space.BUS, busAddress(0x1000 * i), BYTES.length)
        .catch((error: DmaError) => error.code),
    ),
  );
}

async function turns(): Promise<void> {
  for (let i = 0; i < 5; i++) await settle();
}

test("a frontend that never answers has so many reads to answer, however often it resets", async () => {
  const { memory: device, asked } = memory();
  for (let round = 0; round < 5; round++) {
    const reads = readMany(device, 100);
    await turns();
    device.abandon();
    expect(new Set(await reads)).toEqual(new Set(["DMA_ABANDONED"]));
  }
  expect(asked().length).toBe(Limits.READS);

  // Each late reply makes room for one more read, and is dropped.
  const late = asked();
  const reads = readMany(device, 2);
  await turns();
  expect(asked().length).toBe(Limits.READS);
  for (const tag of late.slice(0, 2)) device.readReply({ tag, status: 0, bytes: BYTES });
  await turns();
  for (const tag of asked().slice(late.length)) device.readReply({ tag, status: 0, bytes: BYTES });
  expect(await reads).toEqual([BYTES, BYTES]);
});

test("reads beyond the limit wait for answers, in order", async () => {
  const { memory: device, asked } = memory();
  const reads = readMany(device, Limits.READS + 3);
  await turns();
  expect(asked().length).toBe(Limits.READS);
  for (let n = 0; n < Limits.READS + 3; n++) {
    await turns();
    device.readReply({
      tag: asked()[n]!,
      status: 0,
      bytes: Uint8Array.of(n & 0xff, 0, 0, 0),
    });
  }
  expect((await reads).map((bytes) => bytes[0])).toEqual(
    Array.from({ length: Limits.READS + 3 }, (_, n) => n & 0xff),
  );
});

/** A device's end of a link that creates windows, as a frontend may. */
function windowMaker(now: () => number) {
  const [near, far] = loopbackPair();
  const owner = new Owner();
  // A fixed clock, so that no heartbeat comes between two batches.
  const clock = Object.assign(new TestClock(), { now });
  const link = new Link(near, owner, silentLogger, undefined, clock);
  const device = new LinkMemory(link, Limits.PUSH_BYTES);
  const made = { windows: 0 };
  Object.assign(owner.sink, {
    window: ({ address, length }: Received<"window">) => {
      device.windows.add(address, length);
      made.windows++;
    },
    endWindow: ({ address }: Received<"end_window">) => void device.windows.remove(address),
  });
  const ended = new Promise<number>((resolve) => {
    Object.assign(owner, { closed: resolve });
  });
  const peer = new Link(far, new Owner(), silentLogger, undefined, new TestClock());
  links.push(link, peer);
  const churn = (times: number): void => {
    for (let i = 0; i < times; i++) {
      peer.writer.post("window", { address: NO_ADDRESS, length: Limits.WINDOW_BYTES });
      peer.writer.post("end_window", { address: NO_ADDRESS });
    }
    peer.flush();
  };
  return { made, ended, churn };
}

test.each([0, 1, 60_000])(
  "page-W3 one batch makes no more windows than a second allows: a clock that moves %d ms at each look",
  async (step) => {
    let ms = 0;
    const { made, ended, churn } = windowMaker(() => {
      ms += step;
      return ms;
    });
    const most = Limits.WINDOWS_BYTES_A_SECOND / Limits.WINDOW_BYTES;
    churn(2 * most);
    expect(await ended).toBe(CloseCode.LIMIT);
    expect(made.windows).toBe(most);
  },
);

test("page-W3 the time that a batch takes is no time that pays for the next one", async () => {
  let ms = 0;
  const now = vi.fn(() => ms);
  const { made, ended, churn } = windowMaker(now);
  const most = Limits.WINDOWS_BYTES_A_SECOND / Limits.WINDOW_BYTES;
  // The link looks at the clock when it begins with the batch, and when the batch is applied.
  let looks = 0;
  now.mockImplementation(() => {
    if (looks++ < 2) ms += 60_000;
    return ms;
  });
  churn(most);
  await turns();
  now.mockImplementation(() => ms);
  expect(made.windows).toBe(most);
  churn(1);
  expect(await ended).toBe(CloseCode.LIMIT);
  expect(made.windows).toBe(most);
});

/** What a read or a write of the device did on the link, and what came of it. */
function told() {
  const [near, far] = loopbackPair();
  const frontend = new Owner();
  const link = new Link(near, new Owner(), silentLogger, undefined, new TestClock());
  links.push(link, new Link(far, frontend, silentLogger, undefined, new TestClock()));
  const device = new LinkMemory(link, Limits.PUSH_BYTES);
  const heard = async () => {
    link.flush();
    await turns();
    return frontend.sink.told.splice(0).map(([what, ...rest]) => [what, ...rest.slice(0, 4)]);
  };
  return { device, heard };
}

test("a read of a window is answered here, of anything else by the frontend", async () => {
  const { device, heard } = told();
  const window = device.windows.add(busAddress(0x1000), 0x100);
  window.bytes.set([9, 8, 7, 6], 0x10);
  expect(await device.read(Space.BUS, busAddress(0x1010), 4)).toEqual(Uint8Array.of(9, 8, 7, 6));
  expect([device.readCount, await heard()]).toEqual([0, []]);
  // Not whole, not that space, or asked for on purpose.
  const reads = [
    device.read(Space.BUS, busAddress(0x10fe), 4),
    device.read(Space.GRANT, busAddress(0x1010), 4),
    device.ask(Space.BUS, busAddress(0x1010), 4),
  ];
  await turns();
  expect(device.readCount).toBe(3);
  const asked = await heard();
  expect(asked.map(([what]) => what)).toEqual(["read", "read", "read"]);
  for (const [, tag] of asked) device.readReply({ tag: tag as number, status: 0, bytes: BYTES });
  expect(await Promise.all(reads)).toEqual([BYTES, BYTES, BYTES]);
});

test("a read has a longest length, and its answer that length", async () => {
  const { device, heard } = told();
  const address = busAddress(0x1000);
  const tooLong = device.read(Space.BUS, address, Limits.READ_BYTES + 1);
  await expect(tooLong).rejects.toMatchObject({
    code: "DMA_TOO_LONG",
    status: 1,
    name: "DmaError",
  });
  const answers = [
    { status: 0, length: Limits.READ_BYTES, message: undefined },
    { status: 0, length: 4, message: /was answered with 4 bytes/ },
    { status: 3, length: 0, message: /refused the read of 0x1000\+65536/ },
  ];
  for (const { status, length, message } of answers) {
    const read = device.read(Space.BUS, address, Limits.READ_BYTES).catch((e: DmaError) => e);
    await turns();
    const [[, tag]] = (await heard()) as [[string, number]];
    device.readReply({ tag, status, bytes: new Uint8Array(length) });
    const got = await read;
    if (message === undefined) expect(got).toEqual(new Uint8Array(length));
    else {
      expect(got).toMatchObject({ code: "DMA_REFUSED", status });
      expect((got as DmaError).message).toMatch(message);
    }
    expect(() => device.readReply({ tag, status: 0, bytes: BYTES })).toThrow("answered already");
  }
});

test("a write reaches the frontend, and the device's copy of a window", async () => {
  const { device, heard } = told();
  const window = device.windows.add(busAddress(0x1000), 8);
  const src = Uint8Array.of(0, 1, 2, 3, 4, 5);
  device.write(Space.BUS, busAddress(0x1002), RecordType.RAW, src, 1, 4);
  device.write(Space.GRANT, busAddress(0x1000), RecordType.RAW, src, 1, 4);
  device.write(Space.BUS, busAddress(0x1006), RecordType.RAW, src, 1, 4);
  expect([...window.bytes]).toEqual([0, 0, 1, 2, 3, 4, 0, 0]);
  expect((await heard()).map(([what]) => what)).toEqual(["write", "write", "write"]);
});

test("a reset forgets pushes and refuses who waits for a place", async () => {
  const { device, heard } = told();
  device.pushes.add(busAddress(0x1000), BYTES, 0, 4);
  const reads = readMany(device, Limits.READS + 1);
  await turns();
  device.abandon();
  expect(new Set(await reads)).toEqual(new Set(["DMA_ABANDONED"]));
  expect([device.pushes.live, device.readCount]).toEqual([0, Limits.READS]);
  expect((await heard()).length).toBe(Limits.READS);
});
