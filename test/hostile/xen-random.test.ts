/**
 * Every transaction of a Xen guest with random fields that are valid for msgpack and the catalogue,
 * on a real device with a small heap, beside a neighbour of each personality. (fault-B4, C5, E1,
 * inv-I4, inv-I5)
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Op } from "../../shared/wire/catalogue.ts";
import { CloseCode } from "../../shared/wire/protocol.ts";
import { GRANT_PAGE_BYTES } from "../../shared/xen/grant.ts";
import { Hypercall } from "../../shared/xen/hypercall.ts";
import { XsType, xsBytes, xsPathAndValue, xsStrings } from "../../shared/xen/xenstore.ts";
import { cases } from "../support/counts.ts";
import { grantRecords } from "../support/guest-grants.ts";
import { HostileStage } from "../support/hostile-stage.ts";
import type { Random } from "../support/random.ts";
import { column, packBatch } from "../support/raw-frontend.ts";
import { FREE_REFERENCE, RawXen, RX_RING, TX_RING, VIF } from "../support/raw-xen.ts";

let stage: HostileStage;

beforeAll(async () => {
  stage = await HostileStage.openMixed();
});

afterAll(async () => {
  await stage.close();
});

describe("20,000 random transactions", () => {
  afterAll(() => stage.unharmed());

  it("property: leave the connection standing, or end it with a sentence", async () => {
    const { random } = stage;
    const total = cases(20_000);
    const closes: readonly number[] = [CloseCode.PROTOCOL, CloseCode.LIMIT];
    let ended = 0;
    for (let sent = 0; sent < total; ) {
      const one = await (random.oneIn(4) ? RawXen.start : RawXen.connected)(
        stage.port,
        stage.name(),
      );
      while (sent < total && one.raw.open) {
        const count = random.below(4) + 1;
        one.raw.send(packBatch(Array.from({ length: count }, () => transaction(one, random))));
        sent += count;
        if (random.oneIn(4) && !(await one.raw.flushed())) break;
      }
      if (await one.raw.flushed()) one.raw.ws.close(CloseCode.NORMAL);
      const { code, reason } = await one.raw.closed;
      if (code === CloseCode.NORMAL) continue;
      ended++;
      expect(closes, stage.seeded(`closed with ${code} "${reason}"`)).toContain(code);
      expect(reason, stage.seeded("a close without a sentence")).toMatch(/\w+.*\w/);
    }
    expect(ended).toBeGreaterThan(0);
  });
});

/** A random reference, mostly one that is in use. */
const reference = (random: Random): number =>
  random.oneIn(3) ? random.edgy(15) : random.below(FREE_REFERENCE + 8);

/** A transaction with fields of the right types and random values. */
function transaction(one: RawXen, random: Random): unknown[] {
  const some = <T>(make: () => T): T[] => Array.from({ length: random.below(6) + 1 }, make);
  const address = () => reference(random) * GRANT_PAGE_BYTES + random.below(64) * 4;
  const bytes = () => random.bytes(4 * (random.below(20) + 1));
  switch (random.below(20)) {
    case 0:
    case 1: {
      const flags = () => random.pick([0, 1, 1, 1, 5, 2, 3, 0x101, random.edgy(16)]);
      const domid = () => random.pick([0, 0, 0, one.domid, random.edgy(16)]);
      const entries = some(
        () =>
          [
            reference(random),
            { flags: flags(), domid: domid(), frame: reference(random) },
          ] as const,
      );
      return [Op.GRANT, 1, grantRecords(entries)];
    }
    case 2: {
      const records = Buffer.alloc(8);
      records.writeUInt32LE(reference(random), 0);
      records.writeUInt32LE(reference(random), 4);
      return [Op.END_GRANT, records];
    }
    case 3:
    case 4: {
      const number = random.pick(Object.values(Hypercall));
      const size = random.pick([2, 4, 8, 12, 16, 24, 32, 40]);
      return [Op.HYPERCALL, random.edgy(32), number, random.below(14), random.bytes(size)];
    }
    case 5:
    case 6:
    case 7:
      return [Op.EVENT, random.oneIn(2) ? one.port : random.edgy(12)];
    case 8:
    case 9:
    case 10: {
      const state = String(random.below(9));
      const keys = ["state", "tx-ring-ref", "event-channel", "multi-queue-num-queues", "x/y"];
      const payload = xsPathAndValue(`${VIF}/${random.pick(keys)}`, xsBytes(state));
      return [Op.XENSTORE, xs(XsType.WRITE, payload)];
    }
    case 11:
    case 12: {
      const path = random.pick([VIF, "domid", "/", "//", "", "/local/domain/0", "a/b/c", "@x"]);
      const payload = random.oneIn(3) ? xsStrings(path, "t") : xsStrings(path);
      return [Op.XENSTORE, xs(random.below(28), payload)];
    }
    case 13:
      return column(
        Op.PUSH,
        some(() => ({ address: address(), bytes: bytes(), space: random.below(2) })),
      );
    case 14:
    case 15:
    case 16:
    case 17: {
      // Ring pages: indexes and slots.
      const ring = random.pick([TX_RING, RX_RING]);
      const at = random.oneIn(4) ? random.pick([0, 4, 8, 12]) : 64 + random.below(300) * 4;
      const what = random.oneIn(2) ? random.bytes(4) : Buffer.from([random.below(8), 0, 0, 0]);
      return column(Op.WRITE, [{ address: ring * GRANT_PAGE_BYTES + at, bytes: what }]);
    }
    case 18:
      return random.oneIn(2)
        ? [Op.WINDOW, address() & ~0xfff, GRANT_PAGE_BYTES]
        : [Op.END_WINDOW, random.pick([TX_RING, RX_RING, 20]) * GRANT_PAGE_BYTES];
    default:
      return random.oneIn(3)
        ? random.pick([
            [Op.GRANT_USE, Buffer.alloc(8)],
            [Op.HYPERCALL_REPLY, 1, 0, Buffer.alloc(0)],
            [Op.READ_REPLY, random.below(4), random.below(14), bytes()],
            [Op.MOVE, "ws://127.0.0.1:1"],
          ])
        : [Op.EVENT, one.port];
  }
}

function xs(type: number, payload: Uint8Array): Buffer {
  const header = Buffer.alloc(16);
  header.writeUInt32LE(type, 0);
  header.writeUInt32LE(0x7000_0000, 4);
  header.writeUInt32LE(payload.length, 12);
  return Buffer.concat([header, payload]);
}
