/**
 * The Xen part of the wire in the dissector. Bytes are written by hand from Xen's public headers
 * (xen: xen/include/public/io/netif.h, ring.h, io/xs_wire.h, grant_table.h, event_channel.h): one
 * connection that brings a queue up, sends, receives and goes down.
 */
import { beforeAll, describe, expect, test } from "vitest";
import { Tracer } from "../../cli/trace/wire.ts";
import { RingPersonality } from "../../shared/capture/ring-header.ts";
import { dissect, type Packet, RingFile } from "../support/dissector.ts";
import { column, packBatch } from "../support/raw-frontend.ts";

const WRITE = 18;
const PUSH = 19;
const READ = 20;
const READ_REPLY = 21;
const MOVE = 6;
const GRANT = 32;
const END_GRANT = 33;
const GRANT_USE = 34;
const HYPERCALL = 35;
const HYPERCALL_REPLY = 36;
const EVENT = 37;
const XENSTORE = 38;

const FRAME = 1;
const RING_INDEX = 32;
const TX_REQ = 33;
const TX_RSP = 34;
const RX_REQ = 35;
const RX_RSP = 36;
const CTRL_REQ = 37;
const CTRL_RSP = 38;
const RING_PAGE = 39;

/** Frames of the ring pages, and the references that grant them. */
const TX_FRAME = 0x100;
const RX_FRAME = 0x101;
const TX_REF = 9;
const RX_REF = 10;
const HEADER = 64;

/** Little-endian integers: [width in bytes, value] each. */
function le(...fields: readonly (readonly [number, number])[]): Buffer {
  return Buffer.concat(
    fields.map(([width, value]) => {
      const bytes = Buffer.alloc(width);
      if (value < 0) bytes.writeIntLE(value, 0, width);
      else if (width === 8) bytes.writeBigUInt64LE(BigInt(value));
      else bytes.writeUIntLE(value, 0, width);
      return bytes;
    }),
  );
}

const grantV1 = (ref: number, frame: number, flags = 1) =>
  le([4, ref], [2, flags], [2, 0], [4, frame]);
const txRequest = (gref: number, offset: number, flags: number, id: number, size: number) =>
  le([4, gref], [2, offset], [2, flags], [2, id], [2, size]);
const gso = (size: number, slot: number) =>
  Buffer.concat([le([1, 1], [1, 0], [2, size], [1, 1], [1, 0], [2, 0]), Buffer.alloc(slot - 8)]);
const txResponse = (id: number, status: number) => le([2, id], [2, status], [8, 0]);
const rxRequest = (id: number, gref: number) => le([2, id], [2, 0], [4, gref]);
const rxResponse = (id: number, offset: number, flags: number, status: number) =>
  le([2, id], [2, offset], [2, flags], [2, status]);

const own = (type: number, address: number, bytes: Uint8Array) =>
  column(WRITE, [{ address, type, bytes }]);
const granted = (type: number, ref: number, offset: number, bytes: Uint8Array) =>
  column(WRITE, [{ address: ref * 4096 + offset, space: 1, type, bytes }]);
const push = (ref: number, offset: number, bytes: Uint8Array) =>
  column(PUSH, [{ address: ref * 4096 + offset, space: 1, type: FRAME, bytes }]);

function xs(type: number, reqId: number, txId: number, payload: string): unknown[] {
  const body = Buffer.from(payload, "latin1");
  return [XENSTORE, Buffer.concat([le([4, type], [4, reqId], [4, txId], [4, body.length]), body])];
}

function frameBytes(length: number, fill: number): Buffer {
  const frame = Buffer.alloc(length, fill);
  frame.writeUInt16BE(0x88b5, 12);
  return frame;
}

/** Steps of the session: name, direction, transactions. */
const STEPS: readonly [string, "->" | "<-", unknown[][]][] = [
  [
    "rings",
    "->",
    [
      own(RING_PAGE, TX_FRAME * 4096, le([4, 0], [4, 1], [4, 0], [4, 1])),
      own(RING_PAGE, RX_FRAME * 4096, le([4, 0], [4, 1], [4, 0], [4, 1])),
      [GRANT, 1, Buffer.concat([grantV1(TX_REF, TX_FRAME), grantV1(RX_REF, RX_FRAME)])],
    ],
  ],
  ["alloc", "->", [[HYPERCALL, 1, 32, 6, le([2, 0x7ff0], [2, 0], [4, 0])]]],
  ["allocated", "<-", [[HYPERCALL_REPLY, 1, 0, le([2, 0x7ff0], [2, 0], [4, 5])]]],
  [
    "store",
    "->",
    [
      xs(11, 7, 3, `device/vif/0/tx-ring-ref\0${TX_REF}`),
      xs(11, 8, 3, `device/vif/0/rx-ring-ref\0${RX_REF}`),
      xs(2, 9, 0, "backend/vif/1/0/state\0"),
      xs(4, 10, 0, "backend/state\0tok\0"),
      xs(1, 11, 0, "device\0"),
      xs(7, 12, 3, "T\0"),
    ],
  ],
  [
    "stored",
    "<-",
    [
      xs(11, 7, 3, "OK\0"),
      xs(2, 9, 0, "4"),
      xs(15, 0, 0, "backend/state\0tok\0"),
      xs(1, 11, 0, "vif\0vbd\0"),
      xs(16, 12, 3, "EAGAIN\0"),
    ],
  ],
  ["mapped", "<-", [[GRANT_USE, Buffer.concat([le([4, TX_REF], [2, 1], [2, 1])])]]],
  [
    "post",
    "->",
    [
      [GRANT, 1, Buffer.concat([grantV1(40, 0x900), grantV1(41, 0x901)])],
      own(RX_REQ, RX_FRAME * 4096 + HEADER, Buffer.concat([rxRequest(0, 40), rxRequest(1, 41)])),
      own(RING_INDEX, RX_FRAME * 4096, le([4, 2])),
      [EVENT, 5],
    ],
  ],
  [
    "send",
    "->",
    [
      [GRANT, 1, Buffer.concat([grantV1(50, 0x910, 5), grantV1(51, 0x911, 5)])],
      push(50, 16, frameBytes(100, 0x22)),
      push(51, 0, Buffer.alloc(60, 0x33)),
      own(
        TX_REQ,
        TX_FRAME * 4096 + HEADER,
        Buffer.concat([
          // The first slot has the size of the whole packet; an extra slot follows it.
          txRequest(50, 16, 1 | 2 | 4 | 8, 3, 160),
          gso(1448, 12),
          txRequest(51, 0, 0, 4, 60),
        ]),
      ),
      own(RING_INDEX, TX_FRAME * 4096, le([4, 3])),
      [EVENT, 5],
    ],
  ],
  [
    "sent",
    "<-",
    [
      granted(
        TX_RSP,
        TX_REF,
        HEADER,
        Buffer.concat([txResponse(3, 0), txResponse(0, 1), txResponse(4, -2)]),
      ),
      granted(RING_INDEX, TX_REF, 8, le([4, 3])),
    ],
  ],
  [
    "receive",
    "<-",
    [
      column(WRITE, [
        { address: 40 * 4096, space: 1, type: FRAME, bytes: frameBytes(90, 0x44) },
        { address: RX_REF * 4096 + HEADER, space: 1, type: RX_RSP, bytes: rxResponse(0, 0, 9, 90) },
        { address: RX_REF * 4096 + HEADER + 8, space: 1, type: RX_RSP, bytes: gso(1000, 8) },
      ]),
      [EVENT, 5],
    ],
  ],
  [
    "long",
    "->",
    [
      [GRANT, 1, Buffer.concat([52, 53, 54].map((ref) => grantV1(ref, 0x900 + ref, 5)))],
      // One record goes on in the pages of two more references.
      push(52, 96, frameBytes(4000 + 4096 + 1000, 0x55)),
      own(
        TX_REQ,
        TX_FRAME * 4096 + HEADER + 36,
        Buffer.concat([
          txRequest(52, 96, 4, 5, 4000 + 4096 + 1000),
          txRequest(53, 0, 4, 6, 4096),
          txRequest(54, 0, 0, 7, 1000),
        ]),
      ),
    ],
  ],
  [
    "early",
    "->",
    [
      [GRANT, 1, Buffer.concat([56, 57].map((ref) => grantV1(ref, 0x900 + ref, 5)))],
      push(56, 0, frameBytes(4096 + 500, 0x66)),
    ],
  ],
  [
    "late",
    "->",
    [
      own(
        TX_REQ,
        TX_FRAME * 4096 + HEADER + 72,
        Buffer.concat([txRequest(56, 0, 4, 8, 4596), txRequest(57, 0, 0, 9, 500)]),
      ),
    ],
  ],
  ["liar", "<-", [granted(TX_RSP, TX_REF, HEADER + 36, txResponse(77, 0))]],
  [
    "control",
    "->",
    [own(CTRL_REQ, 0x200 * 4096 + HEADER, le([2, 1], [2, 7], [4, 1], [4, 0], [4, 0]))],
  ],
  ["controlled", "<-", [granted(CTRL_RSP, 30, HEADER, le([2, 1], [2, 7], [4, 2], [4, 0], [4, 0]))]],
  ["read", "<-", [[READ, 6, 1, 50 * 4096 + 8, 20]]],
  ["refused", "->", [[READ_REPLY, 6, 3, Buffer.alloc(0)]]],
  [
    "v2",
    "->",
    [
      [GRANT, 2, le([4, 60], [2, 1 | 256], [2, 0], [2, 128], [2, 512], [8, 0x1_2345_6789])],
      [END_GRANT, le([4, 50], [4, 51])],
    ],
  ],
  ["copy", "->", [[HYPERCALL, 2, 20, 6, le([2, 0x7ff0], [2, 0], [4, 0], [4, 0], [2, 0], [2, 0])]]],
  [
    "copied",
    "<-",
    [[HYPERCALL_REPLY, 2, 0, le([2, 0x7ff0], [2, 0], [4, 4], [4, 64], [2, -8], [2, 0])]],
  ],
  ["suspend", "->", [[HYPERCALL, 3, 29, 2, le([4, 2])]]],
  ["failed", "<-", [[HYPERCALL_REPLY, 3, 38, Buffer.alloc(0)]]],
  ["move", "<-", [[MOVE, "ws://other:7700"]]],
];

let packets: ReadonlyMap<string, Packet>;
const at = (name: string): Packet => {
  const packet = packets.get(name);
  if (packet === undefined) throw new Error(`there is no step ${name}`);
  return packet;
};

beforeAll(async () => {
  const file = new RingFile();
  const facts = { personality: RingPersonality.XEN };
  for (const [, way, transactions] of STEPS) {
    const batch = packBatch(transactions);
    if (way === "->") file.toDevice(batch, facts);
    else file.toFrontend(batch, facts);
  }
  const shown = await dissect(file);
  packets = new Map(STEPS.map(([name], i) => [name, shown[i]!]));
});

describe("grants", () => {
  test("version 1: reference, type, flags, domain, frame", () => {
    const rings = at("rings");
    expect(rings.numbers("ringwire.grant.ref")).toEqual([TX_REF, RX_REF]);
    expect(rings.numbers("ringwire.grant.frame32")).toEqual([TX_FRAME, RX_FRAME]);
    expect(rings.numbers("ringwire.grant.type")).toEqual([1, 1]);
    expect(rings.numbers("ringwire.grant.readonly")).toEqual([0, 0]);
    expect(at("send").numbers("ringwire.grant.readonly")).toEqual([1, 1]);
    expect(at("send").all("ringwire.words")[0]).toContain(
      "grant v1 2 records: 50 PERMIT_ACCESS dom=0 frame=0x910 READONLY; 51",
    );
  });

  test("version 2: part of a page", () => {
    const v2 = at("v2");
    expect(v2.numbers("ringwire.grant.ref")).toEqual([60, 50, 51]);
    expect(v2.number("ringwire.grant.sub_page")).toBe(1);
    expect(v2.number("ringwire.grant.page_off")).toBe(128);
    expect(v2.number("ringwire.grant.length")).toBe(512);
    expect(v2.number("ringwire.grant.frame")).toBe(0x1_2345_6789);
    expect(v2.number("ringwire.grant.version")).toBe(2);
  });

  test("uses", () => {
    const mapped = at("mapped");
    expect(mapped.number("ringwire.grant.ref")).toBe(TX_REF);
    expect(mapped.number("ringwire.grant.readers")).toBe(1);
    expect(mapped.number("ringwire.grant.writers")).toBe(1);
    expect(mapped.one("ringwire.words")).toBe("grant_use 1 record: 9 readers+1 writers+1");
  });

  test("a refused read says which status", () => {
    expect(at("read").number("ringwire.address")).toBe(50 * 4096 + 8);
    expect(at("refused").experts).toEqual(["refused"]);
    expect(at("refused").complaints).toContain("read refused: BAD_GNTREF");
  });
});

describe("hypercalls and events", () => {
  test("a reply is read by its call", () => {
    expect(at("alloc").one("ringwire.hypercall.name")).toBe("event_channel_op ALLOC_UNBOUND");
    expect(at("alloc").number("ringwire.evtchn.dom")).toBe(0x7ff0);
    expect(at("allocated").one("ringwire.hypercall.name")).toBe("event_channel_op ALLOC_UNBOUND");
    expect(at("allocated").number("ringwire.evtchn.port")).toBe(5);
    expect(at("alloc").one("ringwire.words")).toBe(
      "hypercall tag=1 event_channel_op ALLOC_UNBOUND dom=SELF remoteDom=0",
    );
  });

  test("statuses of grant operations", () => {
    expect(at("copied").number("ringwire.gnttab.max_nr_frames")).toBe(64);
    expect(at("copied").number("ringwire.gnttab.status")).toBe(-8);
    expect(at("copied").one("ringwire.words")).toContain("status=PERMISSION_DENIED");
  });

  test("suspend, and one that fails", () => {
    expect(at("suspend").number("ringwire.sched.reason")).toBe(2);
    expect(at("failed").number("ringwire.hypercall.errno")).toBe(38);
    expect(at("failed").complaints).toContain("hypercall failed: ENOSYS");
  });

  test("events and moving", () => {
    expect(at("post").number("ringwire.event.port")).toBe(5);
    expect(at("move").one("ringwire.move.url")).toBe("ws://other:7700");
  });
});

describe("xenstore", () => {
  test("requests", () => {
    const store = at("store");
    expect(store.numbers("ringwire.xenstore.type")).toEqual([11, 11, 2, 4, 1, 7]);
    expect(store.numbers("ringwire.xenstore.req_id")).toEqual([7, 8, 9, 10, 11, 12]);
    expect(store.all("ringwire.xenstore.path")).toEqual([
      "device/vif/0/tx-ring-ref",
      "device/vif/0/rx-ring-ref",
      "backend/vif/1/0/state",
      "backend/state",
      "device",
    ]);
    expect(store.all("ringwire.xenstore.value")).toEqual([`${TX_REF}`, `${RX_REF}`]);
    expect(store.one("ringwire.xenstore.token")).toBe("tok");
    expect(store.one("ringwire.xenstore.transaction_end")).toBe("T");
  });

  test("replies have the path of their request", () => {
    const stored = at("stored");
    expect(stored.all("ringwire.xenstore.path")).toEqual([
      "device/vif/0/tx-ring-ref",
      "backend/vif/1/0/state",
      "backend/state",
      "device",
    ]);
    expect(stored.all("ringwire.xenstore.value")).toEqual(["OK", "4"]);
    expect(stored.all("ringwire.xenstore.name")).toEqual(["vif", "vbd"]);
    expect(stored.one("ringwire.xenstore.error")).toBe("EAGAIN");
    expect(stored.experts).toEqual(["status"]);
  });
});

describe("rings", () => {
  test("tx requests, with the extra slot told from the others", () => {
    const send = at("send");
    expect(send.numbers("ringwire.xen.tx.id")).toEqual([3, 4]);
    expect(send.numbers("ringwire.xen.tx.gref")).toEqual([50, 51]);
    expect(send.numbers("ringwire.xen.tx.size")).toEqual([160, 60]);
    expect(send.numbers("ringwire.xen.tx.flags.more_data")).toEqual([1, 0]);
    expect(send.number("ringwire.xen.extra.type")).toBe(1);
    expect(send.number("ringwire.xen.extra.gso_size")).toBe(1448);
    expect(send.numbers("ringwire.xen.slot")).toEqual([0, 1, 2]);
    expect(new Set(send.all("ringwire.xen.ring"))).toEqual(new Set(["tx ring of queue 0"]));
    expect(send.number("ringwire.xen.ring.req_prod")).toBe(3);
  });

  test("a frame out of two granted pieces, the first slot having the total", () => {
    const send = at("send");
    expect(send.number("ringwire.frame.length")).toBe(160);
    expect(send.one("eth.dst")).toBe("22:22:22:22:22:22");
  });

  test("a frame out of one record in the pages of three references", () => {
    expect(at("long").number("ringwire.frame.length")).toBe(4000 + 4096 + 1000);
    expect(at("long").one("eth.dst")).toBe("55:55:55:55:55:55");
  });

  test("the same when its requests come in a later batch", () => {
    expect(at("late").number("ringwire.frame.length")).toBe(4596);
    expect(at("late").one("eth.dst")).toBe("66:66:66:66:66:66");
  });

  test("tx responses, NULL for the extra slot", () => {
    const sent = at("sent");
    expect(sent.numbers("ringwire.xen.tx.id")).toEqual([3, 0, 4]);
    expect(sent.numbers("ringwire.xen.tx.status")).toEqual([0, 1, -2]);
    expect(sent.experts).toEqual(["status"]);
    expect(sent.complaints).toContain("tx response: DROPPED");
    expect(sent.number("ringwire.xen.ring.rsp_prod")).toBe(3);
  });

  test("rx requests and responses, extra info, the frame of the granted page", () => {
    expect(at("post").numbers("ringwire.xen.rx.gref")).toEqual([40, 41]);
    const receive = at("receive");
    expect(receive.number("ringwire.xen.rx.id")).toBe(0);
    expect(receive.number("ringwire.xen.rx.status")).toBe(90);
    expect(receive.number("ringwire.xen.rx.flags.data_validated")).toBe(1);
    expect(receive.number("ringwire.xen.extra.gso_size")).toBe(1000);
    expect(receive.number("ringwire.frame.length")).toBe(90);
    expect(receive.one("eth.dst")).toBe("44:44:44:44:44:44");
    expect(receive.experts).toEqual([]);
  });

  test("a response to an id that is not outstanding", () => {
    expect(at("liar").experts).toEqual(["req_id"]);
    expect(at("liar").complaints).toContain("tx response to id 77, which is not outstanding");
  });

  test("the control ring", () => {
    expect(at("control").number("ringwire.xen.ctrl.type")).toBe(7);
    expect(at("control").number("ringwire.xen.ctrl.data0")).toBe(1);
    expect(at("controlled").number("ringwire.xen.ctrl.status")).toBe(2);
  });

  test("nothing else is complained about", () => {
    const loud = ["stored", "sent", "liar", "controlled", "refused", "failed"];
    for (const [name, packet] of packets) {
      if (!loud.includes(name)) expect(packet.experts, name).toEqual([]);
    }
  });
});

test("a ring from before the capture: nothing is said about ids that were posted then", async () => {
  const file = new RingFile();
  const facts = { personality: RingPersonality.XEN };
  const request = own(RX_REQ, RX_FRAME * 4096 + HEADER + 8 * 8, rxRequest(8, 48));
  const grant = [GRANT, 1, grantV1(RX_REF, RX_FRAME)];
  file.toDevice(packBatch([grant, request]), facts);
  file.toFrontend(packBatch([granted(RX_RSP, RX_REF, HEADER, rxResponse(3, 0, 0, 60))]), facts);
  const shown = await dissect(file);
  expect(shown.flatMap((packet) => packet.experts)).toEqual([]);
});

test("a batch in words is what the tracer says", () => {
  const tracer = new Tracer();
  for (const [name, way, transactions] of STEPS) {
    const lines = tracer.trace(way === "->" ? "out" : "in", packBatch(transactions));
    const words = lines.map((line) => line.slice(3)).join("; ");
    expect(at(name).one("ringwire.words"), name).toBe(words);
  }
});
