/** Reads that are under way: how many, whoever abandons them. */
import { afterEach, expect, test } from "vitest";
import type { DmaError } from "../../device/dma/host-memory.ts";
import { LinkMemory } from "../../device/dma/link-memory.ts";
import { silentLogger } from "../../shared/log.ts";
import { loopbackPair } from "../../shared/transport/loopback.ts";
import { Link, type LinkOwner } from "../../shared/wire/link.ts";
import { CloseCode, Limits } from "../../shared/wire/transactions.ts";
import { settle } from "../support/fake-host.ts";
import { RecordingSink } from "../support/recording-sink.ts";

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

/** The codes of reads that fail, and what the others brought. */
function readMany(from: LinkMemory, count: number): Promise<(string | Uint8Array)[]> {
  return Promise.all(
    Array.from({ length: count }, (_, i) =>
      from.read(0x1000 * i, BYTES.length).catch((error: DmaError) => error.code),
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

  // Each late answer makes room for one read more, and is nobody's.
  const late = asked();
  const reads = readMany(device, 2);
  await turns();
  expect(asked().length).toBe(Limits.READS);
  for (const tag of late.slice(0, 2)) device.readReply(tag, 0, BYTES, 0, BYTES.length);
  await turns();
  for (const tag of asked().slice(late.length)) device.readReply(tag, 0, BYTES, 0, BYTES.length);
  expect(await reads).toEqual([BYTES, BYTES]);
});

test("reads beyond the limit wait for answers, in order", async () => {
  const { memory: device, asked } = memory();
  const reads = readMany(device, Limits.READS + 3);
  await turns();
  expect(asked().length).toBe(Limits.READS);
  for (let n = 0; n < Limits.READS + 3; n++) {
    await turns();
    device.readReply(asked()[n]!, 0, Uint8Array.of(n & 0xff, 0, 0, 0), 0, 4);
  }
  expect((await reads).map((bytes) => bytes[0])).toEqual(
    Array.from({ length: Limits.READS + 3 }, (_, n) => n & 0xff),
  );
});
