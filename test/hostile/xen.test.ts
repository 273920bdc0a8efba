/**
 * A Xen guest that breaks the rules of events, hypercalls, grants and rings, on a real device with a
 * small heap, beside a neighbour of each personality. (fault-C5, E1 to E8, F3, G1, inv-I2, inv-I4)
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { index32 } from "../../shared/ring/index32.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { CloseCode, Limits } from "../../shared/wire/protocol.ts";
import { Space } from "../../shared/wire/records.ts";
import {
  EvtchnOp,
  evtchnAllocUnbound,
  evtchnClose,
  evtchnStatus,
} from "../../shared/xen/event-channel.ts";
import { GRANT_PAGE_BYTES, GrantType } from "../../shared/xen/grant.ts";
import { GnttabOp } from "../../shared/xen/grant-ops.ts";
import { Domid, Hypercall, XenErrno } from "../../shared/xen/hypercall.ts";
import { NetifStatus, rxResponse } from "../../shared/xen/netif.ts";
import { SchedOp } from "../../shared/xen/sched.ts";
import { XenbusState } from "../../shared/xen/xenbus.ts";
import { cases } from "../support/counts.ts";
import { grantRecords } from "../support/guest-grants.ts";
import { HostileStage } from "../support/hostile-stage.ts";
import type { Random } from "../support/random.ts";
import { column } from "../support/raw-frontend.ts";
import { FREE_REFERENCE, RawXen, RX_RING, TX_RING, VIF } from "../support/raw-xen.ts";
import { sameBytes } from "../support/same.ts";

const TABLE_END = 64 * 512;
const REQ_PROD_AT = 0;

let stage: HostileStage;

beforeAll(async () => {
  stage = await HostileStage.openMixed();
});

afterAll(async () => {
  await stage.close();
});

/** The part of a vif's status that these tests read. */
interface VifStatus {
  readonly faults: Readonly<Record<string, number>>;
  readonly nic: {
    readonly disabled: boolean;
    readonly grants: { readonly granted: number; readonly inUse: number };
    readonly queues?: readonly { readonly spuriousEvents: number }[];
  };
}

async function vif(name: string): Promise<VifStatus> {
  const { nics } = await stage.status();
  return nics.find((nic) => nic.name === name) as unknown as VifStatus;
}

async function guest(use: (guest: RawXen, name: string) => Promise<void>): Promise<void> {
  const name = stage.name();
  const one = await RawXen.connected(stage.port, name);
  try {
    await use(one, name);
  } finally {
    await one.raw.end();
  }
}

function broadcast(seed: number): Uint8Array {
  const frame = Uint8Array.from({ length: 100 }, (_, i) => (i * 3 + seed) & 0xff);
  frame.set([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 8, seed & 0xff, 0x88, 0xb6]);
  return frame;
}

describe("events", () => {
  afterAll(() => stage.unharmed());

  it("fault-G1: a flood without work is looked at less and less, and work is done at once", async () => {
    await guest(async (one, name) => {
      for (let sent = 0; sent < 20_000; sent++) {
        one.notify();
        if (sent % 500 === 499) expect(await one.survived()).toBe(true);
      }
      const { nic } = await vif(name);
      // The waits are 1, 2, 4 ... 1000 ms, so a few dozen of 20,000 events are handled.
      expect(nic.queues![0]!.spuriousEvents).toBeLessThan(50);
      await one.works();
    });
  });

  it("to every port there is, nearly all of them nobody's, do nothing", async () => {
    await guest(async (one, name) => {
      one.raw.batch(...Array.from({ length: Limits.PORTS }, (_, port) => [Op.EVENT, port]));
      expect(await one.survived()).toBe(true);
      expect((await vif(name)).faults).toEqual({});
      await one.works();
    });
  });

  it("to a port that does not exist end the connection", async () => {
    const one = await RawXen.start(stage.port, stage.name());
    one.notify(Limits.PORTS);
    const { code, reason } = await one.raw.closed;
    expect(code).toBe(CloseCode.PROTOCOL);
    expect(reason).toMatch(/^event: port/);
  });
});

describe("hypercalls", () => {
  afterAll(() => stage.unharmed());

  it("property: random ones have one answer each, with an errno of Xen's", async () => {
    const { random } = stage;
    const errnos: readonly number[] = [0, ...Object.values(XenErrno)];
    const total = cases(20_000);
    const seen = new Set<number>();
    await guest(async (one) => {
      for (let done = 0; done < total; ) {
        const tags: number[] = [];
        for (; tags.length < 200 && done < total; done++) tags.push(callAnything(one, random));
        await one.reply(tags.at(-1)!);
        const told = one.raw.heard.told.filter(([what]) => what === "hypercallReply");
        for (const tag of tags) {
          const answers = told.filter(([, t]) => t === tag);
          expect(answers, stage.seeded(`call ${tag}`)).toHaveLength(1);
          const errno = answers[0]![2] as number;
          seen.add(errno);
          expect(errnos, stage.seeded(`errno ${errno}`)).toContain(errno);
        }
      }
    });
    // The calls were refused for several reasons.
    expect([...seen]).toEqual(expect.arrayContaining([0, XenErrno.EINVAL, XenErrno.ENOSYS]));
  });

  it("ports run out with ENOSPC, for this domain alone, and come back with it", async () => {
    await guest(async (one) => {
      const fields = { dom: Domid.SELF, remoteDom: 0 };
      let last = 0;
      for (let port = 2; port <= Limits.PORTS; port++) {
        last = one.evtchn(EvtchnOp.ALLOC_UNBOUND, evtchnAllocUnbound, fields);
      }
      expect((await one.reply(last - 1)).errno).toBe(0);
      expect((await one.reply(last)).errno).toBe(XenErrno.ENOSPC);
      await one.works();
      await guest((other) => other.works());
      one.evtchn(EvtchnOp.CLOSE, evtchnClose, { port: Limits.PORTS - 1 });
      expect(await one.allocUnbound()).toBe(Limits.PORTS - 1);
    });
  });

  it("a domain's ports and grants are out of another's reach", async () => {
    await guest(async (victim) => {
      await guest(async (one) => {
        const { domid, port } = victim;
        for (const theirs of [
          { dom: domid, port },
          { dom: 0, port: 1 },
        ]) {
          const tag = one.evtchn(EvtchnOp.STATUS, evtchnStatus, theirs);
          expect((await one.reply(tag)).errno).toBe(XenErrno.EPERM);
        }
        const bytes = new Uint8Array(12);
        new DataView(bytes.buffer).setUint16(0, victim.domid, true);
        new DataView(bytes.buffer).setUint32(4, victim.port, true);
        const bind = one.call(Hypercall.EVENT_CHANNEL_OP, EvtchnOp.BIND_INTERDOMAIN, bytes);
        expect((await one.reply(bind)).errno).toBe(XenErrno.EINVAL);
        await victim.works();
      });
    });
  });
});

function callAnything(one: RawXen, random: Random): number {
  const number = random.oneIn(10)
    ? random.edgy(8)
    : random.pick([Hypercall.GRANT_TABLE_OP, Hypercall.EVENT_CHANNEL_OP, Hypercall.SCHED_OP]);
  const commands = { 20: GnttabOp, 29: SchedOp, 32: EvtchnOp }[number] ?? EvtchnOp;
  const command = random.oneIn(20) ? random.edgy(8) : random.pick(Object.values(commands));
  // The size of one argument structure, of several, or none.
  const size = random.oneIn(8)
    ? random.below(200)
    : random.pick([2, 4, 8, 12, 16, 24, 32, 40]) * (random.below(3) + 1);
  const bytes = Buffer.alloc(size);
  for (let at = 0; at + 2 <= size; at += 2) {
    if (random.oneIn(3))
      bytes.writeUInt16LE(random.pick([0, 1, 2, Domid.SELF, random.edgy(16)]), at);
  }
  return one.call(number, command, bytes);
}

describe("grants", () => {
  afterAll(() => stage.unharmed());

  const record = (reference: number) =>
    grantRecords([[reference, { flags: GrantType.PERMIT_ACCESS, domid: 0, frame: 1 }]]);

  it.each<[string, unknown[], RegExp]>([
    ["a reference behind the table", [Op.GRANT, 1, record(TABLE_END)], /^grant: record 0: .*32768/],
    [
      "the second of two records behind the table",
      [Op.GRANT, 1, Buffer.concat([record(100), record(2 ** 32 - 1)])],
      /^grant: record 1: .*4294967295/,
    ],
    ["the end of a grant behind the table", [Op.END_GRANT, Buffer.alloc(4, 0xff)], /^end_grant: /],
    ["records of the other version", [Op.GRANT, 2, Buffer.alloc(20)], /^grant: .*version 2/],
    ["records of no version", [Op.GRANT, 0, Buffer.alloc(12)], /^grant: version/],
    ["half a record", [Op.GRANT, 1, Buffer.alloc(18)], /^grant: .*whole number/],
    ["use counts of its own", [Op.GRANT_USE, Buffer.alloc(8)], /grant_use/],
    ["a reply to a call of nobody", [Op.HYPERCALL_REPLY, 1, 0, Buffer.alloc(0)], /hypercall_reply/],
    [
      "a write by reference",
      column(Op.WRITE, [{ address: GRANT_PAGE_BYTES, bytes: Buffer.alloc(4), space: Space.GRANT }]),
      /^write: space 1/,
    ],
    ["an answer to no read", [Op.READ_REPLY, 1, 0, Buffer.alloc(4)], /^read_reply: tag 1/],
    ["a register", [Op.MMIO_READ, 1, 0, 0, 4], /^mmio_read: /],
  ])("%s ends the connection with a sentence", async (_what, lie, sentence) => {
    const one = await RawXen.connected(stage.port, stage.name());
    one.raw.batch(lie);
    const { code, reason } = await one.raw.closed;
    expect(code).toBe(CloseCode.PROTOCOL);
    expect(reason).toMatch(sentence);
  });

  it("fault-E1, E2: a packet in a page that is not granted to the backend is an error", async () => {
    await guest(async (one) => {
      one.grant(FREE_REFERENCE, { domid: 7 });
      one.grant(FREE_REFERENCE + 1);
      one.end(FREE_REFERENCE + 1);
      for (const reference of [
        FREE_REFERENCE,
        FREE_REFERENCE + 1,
        0,
        7,
        3000,
        TABLE_END,
        2 ** 32 - 1,
      ]) {
        const status = await one.txStatus(one.transmit(reference, 100));
        expect(status, `reference ${reference}`).toBe(NetifStatus.ERROR);
      }
      await one.works();
    });
  });

  it("fault-E3: what may not be written is not written, and the next page is", async () => {
    await guest(async (one) => {
      const ids = [0, 1, 2, 3].map((n) => FREE_REFERENCE + n);
      one.grant(ids[0]!, { readonly: true });
      one.grant(ids[1]!, { domid: 7 });
      for (const reference of [ids[0]!, ids[1]!, ids[2]!]) one.post(reference);
      const page = one.grant(ids[3]!);
      one.post(ids[3]!);
      expect(await one.survived()).toBe(true);
      await guest(async (sender) => {
        for (let n = 0; n < 4; n++) sender.sendFrame(FREE_REFERENCE + n, broadcast(n));
        await sender.txStatus(3);
        await one.raw.until("four responses", () => one.rx.rspProd >= 4);
      });
      const status = (n: number) => rxResponse.status(one.rx.view, one.rx.at(index32(n)));
      for (let n = 0; n < 3; n++) expect(status(n)).toBeLessThan(0);
      expect(status(3)).toBe(100);
      expect(page[15]).not.toBe(0);
      sameBytes(one.pages.get(ids[0]!)!, new Uint8Array(4096));
      sameBytes(one.pages.get(ids[1]!)!, new Uint8Array(4096));
      expect(one.strays).toEqual([]);
    });
  });

  it("fault-E5: rings whose grants end while they are mapped are written to no more", async () => {
    await guest(async (one, name) => {
      one.end(TX_RING, RX_RING);
      // The same reference now grants another page.
      const other = one.grant(TX_RING);
      for (let n = 0; n < 10; n++) one.transmit(FREE_REFERENCE, 100);
      one.notify();
      expect(await one.survived()).toBe(true);
      sameBytes(other, new Uint8Array(4096));
      expect(one.strays).toEqual([]);
      await one.write(`${VIF}/state`, String(XenbusState.CLOSED));
      await one.until(XenbusState.CLOSED);
      expect((await vif(name)).nic.grants.inUse).toBe(0);
    });
  });

  it("fault-E8: a table filled to its end, and emptied, again and again", async () => {
    await guest(async (one, name) => {
      for (let round = 0; round < 5; round++) {
        for (let from = FREE_REFERENCE; from < TABLE_END; from += Limits.COLUMN_RECORDS) {
          const references = Array.from(
            { length: Math.min(Limits.COLUMN_RECORDS, TABLE_END - from) },
            (_, i) => from + i,
          );
          const entry = { flags: GrantType.PERMIT_ACCESS, domid: 0, frame: 1 };
          const entries = references.map((reference) => [reference, entry] as const);
          one.raw.batch([Op.GRANT, 1, grantRecords(entries)]);
          if (round % 2 === 1) one.end(...references);
        }
        expect(await one.survived()).toBe(true);
        const { granted } = (await vif(name)).nic.grants;
        expect(granted).toBe(round % 2 === 1 ? 2 : TABLE_END - FREE_REFERENCE + 2);
      }
      await one.works();
    });
  });

  it("pushes without end are cut at the budget that welcome told", async () => {
    const one = await RawXen.connected(stage.port, stage.name());
    const bytes = Buffer.alloc(GRANT_PAGE_BYTES);
    const pieces = Array.from({ length: 128 }, (_, n) => ({
      address: (FREE_REFERENCE + n) * GRANT_PAGE_BYTES,
      bytes,
      space: Space.GRANT,
    }));
    // Twice the budget, and no push is ever used.
    for (let sent = 0; sent < 2 * Limits.PUSH_BYTES; sent += 128 * GRANT_PAGE_BYTES) {
      one.raw.batch(column(Op.PUSH, pieces));
    }
    expect((await one.raw.closed).code).toBe(CloseCode.LIMIT);
  });
});

describe("rings", () => {
  afterAll(() => stage.unharmed());

  const wrong = [
    ["one more than it holds", 257],
    ["half way round", 2 ** 31],
    ["one backwards", 2 ** 32 - 1],
  ] as const;
  it.each(
    (["tx", "rx"] as const).flatMap((ring) =>
      wrong.map(([what, index]) => ({ ring, what, index })),
    ),
  )("fault-C5: index of the $ring ring $what: disabled, until it connects anew", async (wrong) => {
    await guest(async (one, name) => {
      one[wrong.ring].publish(wrong.index);
      // A receive ring is read when there is a frame for it.
      await guest((other) => other.works());
      await one.until(XenbusState.CLOSING);
      const { nic, faults } = await vif(name);
      expect(faults).toEqual({ [`${wrong.ring.toUpperCase()}_REQ_PROD`]: expect.any(Number) });
      expect(nic).toMatchObject({ connected: false, disabled: true, grants: { inUse: 0 } });
      // The disabled interface reads its rings no more.
      one.transmit(FREE_REFERENCE, 100);
      one.notify();
      expect(await one.survived()).toBe(true);
      expect(one.tx.rspProd).toBe(0);
      await one.reconnect();
      await one.works();
    });
  });

  it("fault-F3: words of the backend that the guest writes into its ring change nothing", async () => {
    const { random } = stage;
    await guest(async (one) => {
      for (let n = 0; n < 200; n++) {
        const page = Buffer.from(one.tx.page.slice());
        random.bytes(8).copy(page, random.pick([4, 8, 12, 16, 40]));
        const bytes = page.subarray(REQ_PROD_AT + 4, 64);
        one.raw.batch(
          column(Op.WRITE, [{ address: TX_RING * GRANT_PAGE_BYTES + REQ_PROD_AT + 4, bytes }]),
        );
        await one.works();
      }
    });
  });
});
