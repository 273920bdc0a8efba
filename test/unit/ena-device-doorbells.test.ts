/** Every value that a 16-bit doorbell can have, on small rings: it moves the ring or stops the queue. */
import { describe, expect, test } from "vitest";
import type { HostMemory } from "../../device/dma/host-memory.ts";
import { createEnaNic } from "../../device/ena/index.ts";
import { DescriptorRing } from "../../device/ena/memory.ts";
import {
  createCq,
  createSq,
  destroyCq,
  destroySq,
  Opcode,
  Placement,
  SqDirection,
} from "../../shared/ena/admin.ts";
import { FeatureId } from "../../shared/ena/features.ts";
import { rxDesc, txDesc } from "../../shared/ena/io.ts";
import { llqFeature } from "../../shared/ena/llq.ts";
import { distance, index16 } from "../../shared/ring/index16.ts";
import { busAddress, NO_ADDRESS } from "../../shared/wire/records.ts";
import { SOAK } from "../support/counts.ts";
import { build, type EnaQueue } from "../support/ena-guest.ts";
import { EnaTwin } from "../support/ena-twin.ts";
import { FakeHost } from "../support/fake-host.ts";
import { frameOf } from "../support/packets.ts";

const DEPTH = 4;
const VALUES = 65_536;
/** A soak tries each value. An odd step covers each residue of the depth. */
const STEP = SOAK ? 1 : 7;
const LLQ_ENTRY = 128;
const FRAME_BYTES = 60;

interface Rig {
  readonly host: FakeHost;
  readonly twin: EnaTwin;
  readonly queue: EnaQueue;
  /**
   * Makes the queue again in the same memory: head and tail are 0, every slot holds a descriptor.
   */
  renew(): void;
}

/** A queue with a valid descriptor of the first lap in every slot, none of them announced. */
async function rig(direction: SqDirection, placement: Placement): Promise<Rig> {
  const host = new FakeHost();
  const twin = new EnaTwin(createEnaNic(host), host);
  await twin.attach();
  if (placement === Placement.DEV) {
    await twin.setFeature(FeatureId.LLQ, llqFeature, {
      headerLocationEnabled: 1,
      entrySizeEnabled: 1,
      descsBeforeHeaderEnabled: 2,
      strideEnabled: 2,
    });
  }
  const queue = await twin.createQueue(direction, DEPTH, 1, placement);
  const tx = direction === SqDirection.TX;
  const { view } = host.memory;
  const address = twin.alloc(2048);
  const entry = new DataView(new ArrayBuffer(LLQ_ENTRY));
  const describe = (slot: number): void => {
    const at = twin.at(queue.sqAddress) + slot * 16;
    if (!tx) rxDesc.write(view, at, 2048, 1, slot, address);
    else if (placement === Placement.HOST) {
      txDesc.write(view, at, FRAME_BYTES, slot, 1, 1, 1, 1, 0, address, 0);
    } else {
      txDesc.write(entry, 0, 0, slot, 1, 1, 1, 1, 0, NO_ADDRESS, FRAME_BYTES);
      twin.nic.pci.mmioWrite(
        2,
        queue.llqOffset + slot * LLQ_ENTRY,
        new Uint8Array(entry.buffer),
        0,
        LLQ_ENTRY,
      );
    }
  };
  const describeAll = (): void => {
    for (let slot = 0; slot < DEPTH; slot++) describe(slot);
  };
  const pushAll = (): void => {
    while (host.memory.pushes.live < DEPTH) host.memory.push(address, FRAME_BYTES);
  };
  const cqBytes = tx ? 8 : 16;
  const again = [
    build(destroySq, { opcode: Opcode.DESTROY_SQ, direction, sqIdx: queue.sqIdx }),
    build(destroyCq, { opcode: Opcode.DESTROY_CQ, cqIdx: queue.cqIdx }),
    build(createCq, {
      opcode: Opcode.CREATE_CQ,
      interruptMode: true,
      entrySizeWords: cqBytes / 4,
      cqDepth: DEPTH,
      msixVector: 1,
      cqBa: queue.cqAddress,
    }),
    build(createSq, {
      opcode: Opcode.CREATE_SQ,
      direction,
      placement,
      contiguous: true,
      cqIdx: queue.cqIdx,
      sqDepth: DEPTH,
      sqBa: queue.sqAddress,
    }),
  ];
  const renew = (): void => {
    for (const command of again) twin.post(command);
    twin.ringAdmin();
    twin.takeCompletions();
    const cqAt = twin.at(queue.cqAddress);
    host.memory.bytes.fill(0, cqAt, cqAt + DEPTH * cqBytes);
    queue.cq.head = index16(0);
    queue.cq.phase = 1;
    // A new low latency queue has fresh device memory.
    if (placement === Placement.DEV) describeAll();
    pushAll();
    host.memory.writes.length = 0;
    host.interrupts.length = 0;
    host.switchPort.frames.length = 0;
  };
  describeAll();
  pushAll();
  host.takeFaults();
  return { host, twin, queue, renew };
}

/** Writes the doorbell. Returns "stopped CODE", or how far the queue went. */
function doorbell(r: Rig, direction: SqDirection, value: number): string {
  const { host, twin, queue } = r;
  twin.write32(queue.doorbell, value);
  twin.nic.batchEnd();
  const faults = host.takeFaults();
  if (faults.length > 0) return `stopped ${faults.join()}`;
  if (direction === SqDirection.TX) {
    const done = twin.completed(queue);
    return `moved ${done.length} ${host.switchPort.frames.length}`;
  }
  // Each frame uses one buffer, so the number of frames is the number of announced buffers.
  let taken = 0;
  while (taken <= DEPTH && host.port!.deliver(FRAME) === undefined) taken++;
  host.port!.flush();
  return `moved ${twin.takeRx(queue).length} ${taken}`;
}
const FRAME = frameOf(new Uint8Array(FRAME_BYTES));

describe("fault-C5 the full sweep of a doorbell", () => {
  test.each([
    ["tx", SqDirection.TX, Placement.HOST, "TX", STEP],
    ["rx", SqDirection.RX, Placement.HOST, "RX", STEP],
    // A low latency queue uses the same ring.
    ["tx, low latency queue", SqDirection.TX, Placement.DEV, "TX", 3 * STEP],
  ] as const)(
    "fault-C5 %s moves the queue just so far, or stops it by name",
    async (_what, direction, placement, prefix, step) => {
      const r = await rig(direction, placement);
      const wrong: string[] = [];
      for (let value = 0; value < VALUES; value += value <= DEPTH ? 1 : step) {
        const outcome = doorbell(r, direction, value);
        const wanted =
          value <= DEPTH ? `moved ${value} ${value}` : `stopped ${prefix}_DOORBELL_BEYOND_RING`;
        if (outcome !== wanted && wrong.length < 10) wrong.push(`${value}: ${outcome}`);
        r.renew();
      }
      expect(wrong).toEqual([]);
      expect(r.host.memory.violations).toEqual([]);
      // After all that the queue works normally.
      expect(doorbell(r, direction, 3)).toBe("moved 3 3");
    },
  );

  test("fault-C5 from any head and tail, also across 2^16: forward within the ring, or refused", () => {
    const memory = {
      window: (address: number, length: number) => {
        const bytes = new Uint8Array(length);
        return { address, bytes, view: new DataView(bytes.buffer) };
      },
    } as unknown as HostMemory;
    const wrong: string[] = [];
    for (const depth of [2, 4, 8]) {
      for (const head of [0, 1, depth, 0x7fff, 0x8000, 0xffff, 0x1_0000 - depth]) {
        for (let waiting = 0; waiting <= depth; waiting++) {
          for (let value = 0; value < VALUES; value++) {
            const ring = SWEPT.get(depth) ?? newRing(memory, depth);
            ring.cursor.head = index16(head);
            ring.tail = index16(head + waiting);
            const error = ring.announce(value);
            const ahead = distance(index16(head), index16(value));
            let wanted: string | undefined;
            if (ahead > depth) wanted = "BEYOND_RING";
            else if (ahead < waiting) wanted = "BACKWARDS";
            const tail = wanted === undefined ? value : (head + waiting) & 0xffff;
            if ((error !== wanted || ring.tail !== tail) && wrong.length < 10) {
              wrong.push(`depth ${depth}, head ${head}, ${waiting} wait, ${value}: ${error}`);
            }
          }
        }
      }
    }
    expect(wrong).toEqual([]);
  });
});

/** Rings by depth; head and tail are set for each value. */
const SWEPT = new Map<number, DescriptorRing>();
function newRing(memory: HostMemory, depth: number): DescriptorRing {
  const ring = new DescriptorRing(
    memory,
    busAddress(4096),
    depth,
    16,
    () => undefined,
    () => undefined,
  );
  SWEPT.set(depth, ring);
  return ring;
}
