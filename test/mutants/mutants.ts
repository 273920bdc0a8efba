/**
 * One small edit of the source for each behaviour, and the test that must notice it. Each `search`
 * occurs exactly once in its file. `npm run mutants -- --fits` reports stale rows.
 */
export interface Mutant {
  /** Row of the checklist. The title of the test begins with it. */
  readonly row: string;
  /** File of the test; defaults to SEED_TEST. */
  readonly test?: string;
  readonly file: string;
  readonly search: string;
  readonly replace: string;
  /** The broken behaviour, in a few words. */
  readonly breaks: string;
}

/** The file with the tests of the netmap rows. */
export const SEED_TEST = "test/seed/ena-netmap.test.ts";

const RX = "frontend/ena/netmap-rx.ts";
const RX_SLOTS = "frontend/ena/netmap-rx-slots.ts";
const MODE = "frontend/ena/netmap.ts";
const DATAPATH_RX = "frontend/ena/datapath-rx.ts";
const DATAPATH_TX = "frontend/ena/datapath-tx.ts";
const QUEUES = "frontend/ena/queues.ts";

export const mutants: readonly Mutant[] = [
  {
    row: "E1",
    file: RX_SLOTS,
    search: "Math.min(released - 1, ring.sq.freeEntries())",
    replace: "Math.min(released - 2, ring.sq.freeEntries())",
    breaks: "the first fill is one buffer short",
  },
  {
    row: "E2",
    file: QUEUES,
    search: "if (netmap?.hasRxRing(rx.qid)) resetRxRing(netmap, rx);",
    replace: "if (netmap !== undefined) resetRxRing(netmap, rx);",
    breaks: "every ring is reset in netmap",
  },
  {
    row: "E3",
    file: DATAPATH_RX,
    search: "adapter.netmap?.hasRxRing(ring.qid) ? allocRxSlot : allocRxMbuf",
    replace: "allocRxMbuf",
    breaks: "refill always takes mbufs",
  },
  {
    row: "E4",
    file: MODE,
    search:
      "if (na.ifnet === undefined || (na.ifnet.capEnable & Ifcap.NETMAP) === 0) return false;",
    replace: "if (na.ifnet === undefined || na.ifnet.capEnable < 0) return false;",
    breaks: "the capability is not looked at",
  },
  {
    row: "E5",
    file: DATAPATH_RX,
    search: "const id = ring.freeIds[ring.nextToUse]!;",
    replace: "const id = ring.nextToUse;",
    breaks: "buffers are taken to complete in order",
  },
  {
    row: "E6",
    file: RX_SLOTS,
    search: "ring.nicCur = nmNext(ring.nicCur, slots.lim);",
    replace: "ring.nicCur = nmNext(nmNext(ring.nicCur, slots.lim), slots.lim);",
    breaks: "a call takes two slots",
  },
  {
    row: "E7",
    file: RX_SLOTS,
    search: "adapter.netmap?.na.rxRings[ring.qid]",
    replace: "adapter.netmap?.na.rxRings[0]",
    breaks: "every queue fills ring 0",
  },
  {
    row: "E8",
    file: RX_SLOTS,
    search: "if (slots === undefined) return Errno.EFAULT;",
    replace: "if (slots === undefined) return 0;",
    breaks: "a ring that is not open seems to give a buffer",
  },
  {
    row: "E9",
    file: RX_SLOTS,
    search: "slots.setBufIdx(ring.nicCur, 0);",
    replace: "",
    breaks: "the slot keeps the buffer that the device has",
  },
  {
    row: "E10",
    file: RX_SLOTS,
    search: "if (releasedSlots(kring, ring) <= 1) return Errno.ENOMEM;",
    replace: "if (releasedSlots(kring, ring) <= 0) return Errno.ENOMEM;",
    breaks: "the last slot is taken too",
  },
  {
    row: "E11",
    file: RX_SLOTS,
    search: "ring.maps.sync(id, SyncOp.PREREAD);",
    replace: "",
    breaks: "no PREREAD",
  },
  {
    row: "E12",
    file: RX_SLOTS,
    search: "ring.netmapBufIdx[id] = bufIdx;",
    replace: "ring.netmapBufIdx[id] = bufIdx + 1;",
    breaks: "another buffer is remembered",
  },
  {
    row: "E13",
    file: RX_SLOTS,
    search: "ring.address[id] = ring.maps.address(id);",
    replace: "ring.address[id] = (ring.maps.address(id) + 64) as BusAddress;",
    breaks: "the descriptor has another address",
  },
  {
    row: "E14",
    file: RX_SLOTS,
    search: "if (ring.netmapBufIdx[id] !== 0) return 0;",
    replace: "",
    breaks: "a second slot is taken for the same id",
  },
  {
    row: "E15",
    file: RX_SLOTS,
    search: "slots.setSlotFlags(slot, Ns.BUF_CHANGED);",
    replace: "",
    breaks: "the application is not told of the other buffer",
  },
  {
    row: "E16",
    file: RX_SLOTS,
    search: "if (slots.bufIdx(slot) !== 0) {",
    replace: "if (slots.bufIdx(slot) < 0) {",
    breaks: "an occupied slot is overwritten",
  },
  {
    row: "E17",
    file: RX,
    search: "kring.nrHwtail = ring.nmSlot;",
    replace: "",
    breaks: "the tail does not move",
  },
  {
    row: "E18",
    file: RX,
    search: "const sound = rxFrames(adapter, kring, ring, slots);",
    replace: "rxCleanup(adapter, ring);\n  const sound = rxFrames(adapter, kring, ring, slots);",
    breaks: "refill comes first",
  },
  {
    row: "E19",
    file: RX,
    search: "if (!sound) return 0;",
    replace: "if (!sound) return Errno.EIO;",
    breaks: "the application gets an error that a reset repairs",
  },
  {
    row: "E20",
    file: RX,
    search: "if (kring.rhead >= kring.nkrNumSlots) return ringReinit(kring);",
    replace: "",
    breaks: "the ring's consistency is not looked at",
  },
  {
    row: "E21",
    file: RX,
    search: "while (frames < MAX_FRAMES_PER_SYNC && ",
    replace: "while (frames < MAX_FRAMES_PER_SYNC + 1 && ",
    breaks: "one frame beyond the bound",
  },
  {
    row: "E22",
    file: RX,
    search: "&& rxFrame(adapter, ring, slots)) frames++;",
    replace:
      "&& rxFrame(adapter, ring, slots)) {\n    frames++;\n    kring.nrHwtail = ring.nmSlot;\n  }",
    breaks: "the tail moves with every frame",
  },
  {
    row: "E23",
    file: RX,
    search: "for (let i = 0; i < descs; i++) bytes +=",
    replace: "for (let i = 0; i < 1; i++) bytes +=",
    breaks: "only the first descriptor is loaded",
  },
  {
    row: "E24",
    file: RX,
    search: "slots.setSlotFlags(last, Ns.BUF_CHANGED);",
    replace: "slots.setSlotFlags(last, Ns.BUF_CHANGED | Ns.MOREFRAG);",
    breaks: "NS_MOREFRAG on the last slot",
  },
  {
    row: "E25",
    file: RX,
    search: "ring.nmStopped = true;",
    replace: "ring.nmStopped = true;\n    ring.nmSlot = nmNext(ring.nmSlot, slots.lim);",
    breaks: "a piece of the bad packet stays visible",
  },
  {
    row: "E26",
    file: RX,
    search: "hwStats.rx_bytes += bytes;",
    replace: "hwStats.rx_bytes += ring.pktLengths[0]!;",
    breaks: "only the first segment's bytes are counted",
  },
  {
    row: "E27",
    file: RX_SLOTS,
    search: "const released = releasedSlots(kringOf(adapter, ring), ring);",
    replace:
      "const kring = kringOf(adapter, ring);\n  const released = slotsBetween(ring.nicCur, kring.rhead, kring.nkrNumSlots);",
    breaks: "a drained ring whose slots are all released gets nothing",
  },
  {
    row: "E28",
    file: DATAPATH_TX,
    search: "if (adapter.netmap?.hasTxRing(tx.qid) !== true) return tx;",
    replace: "return tx;",
    breaks: "the stack sends on an application's ring",
  },
  {
    row: "E29",
    file: DATAPATH_RX,
    search: "if (ring.netmapBufIdx[id] !== 0) returnRxSlot(adapter, ring, id);",
    replace: "ring.netmapBufIdx[id] = 0;",
    breaks: "buffers with the device are forgotten",
  },
  {
    row: "E30",
    file: RX,
    search: "if (ring === undefined || !adapter.running || !adapter.linkUp) return 0;",
    replace: "if (ring === undefined || !adapter.running) return 0;",
    breaks: "frames move while the link is down",
  },
  {
    row: "E31",
    file: RX,
    search: "ring.maps.sync(id, SyncOp.POSTREAD);",
    replace: "ring.maps.sync(id, SyncOp.PREREAD);",
    breaks: "the buffer is not synced for the CPU",
  },
  {
    row: "E32",
    file: RX,
    search: "if (i === 0 && ring.pktOffset !== 0) {",
    replace: "if (i > 0 && ring.pktOffset !== 0) {",
    breaks: "an offset holds for all descriptors but the first",
  },
  {
    row: "E33",
    file: "frontend/netmap/sync.ts",
    search: "  ring.timestampUs = microtime();",
    replace: "  if ((ring.flags & 2) !== 0) ring.timestampUs = microtime();",
    breaks: "no time in the ring unless it is asked for",
  },
  {
    row: "E34",
    file: "frontend/netmap/poll.ts",
    search: "kring.rhead !== ring.head) return true;",
    replace: "kring.rhead > ring.lim) return true;",
    breaks: "released slots wait while frames are unread",
  },
];
