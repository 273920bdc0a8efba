/**
 * Edits that no test noticed at first. Each has a test of its own now, whose title begins with its
 * row. M1, M4, M9, M12 and M14 to M16 are edits of netfront and stand in netfront.ts or with its
 * tests.
 */
import type { Mutant } from "./mutants.ts";

const RX = "frontend/ena/netmap-rx.ts";
const TX = "frontend/ena/netmap-tx.ts";
const DATAPATH_RX = "frontend/ena/datapath-rx.ts";
const SURVIVORS_TEST = "test/unit/netmap-survivors.test.ts";

const edits: readonly Omit<Mutant, "test">[] = [
  {
    row: "mutant-M2",
    file: RX,
    search: "kring.nrHwcur = kring.rhead;\n  if (!sound)",
    replace: "if (!sound)",
    breaks: "nr_hwcur stays: an error at each wrap with unread frames",
  },
  {
    row: "mutant-M3",
    file: "frontend/netmap/adapter.ts",
    search: "kring.nrMode = RingMode.ON;\n    kring.notify();\n    return kring.ring;",
    replace: "kring.nrMode = RingMode.ON;\n    return kring.ring;",
    breaks: "a reset wakes nobody who waits for room",
  },
  {
    row: "mutant-M5",
    file: "frontend/netmap/register.ts",
    search: "if (isExclusive) kring.nrKflags &= ~Nkr.EXCLUSIVE;",
    replace: "",
    breaks: "a ring stays its last user's own",
  },
  {
    row: "mutant-M6",
    file: "frontend/netmap/poll.ts",
    search: "ring.cur === ring.tail || kring.rhead !== ring.head",
    replace: "ring.cur === ring.tail",
    breaks: "released slots wait while frames are unread",
  },
  {
    row: "mutant-M7",
    file: DATAPATH_RX,
    search: "const offset = taken === 0 ? ring.pktOffset : 0;",
    replace: "const offset = 0;",
    breaks: "an offset may lead beyond the first buffer",
  },
  {
    row: "mutant-M8",
    file: DATAPATH_RX,
    search: "if (mbzMatters && rxCdesc.mbzOf(status) !== 0) return RxError.MALFORMED;",
    replace: "if (mbzMatters && rxCdesc.mbzOf(status) < 0) return RxError.MALFORMED;",
    breaks: "bits that must be zero are not looked at",
  },
  {
    row: "mutant-M10",
    file: TX,
    search: "pkt.slots + (sq.llq?.disableMetaCaching === true ? 1 : 0)",
    replace: "pkt.slots",
    breaks: "no room is reckoned for the meta descriptor",
  },
  {
    row: "mutant-M11",
    file: "frontend/ena/netmap-tx-slots.ts",
    search: "txDropping[ring.qid] = out.dropping;",
    replace: "",
    breaks: "the rest of a dropped packet goes out after down and up",
  },
  {
    row: "mutant-M13",
    file: RX,
    search: "if (i === 0 && ring.pktOffset !== 0) {",
    replace: "if (ring.pktOffset !== 0) {",
    breaks: "the offset of the first buffer is applied to all",
  },
  {
    row: "mutant-M17",
    file: RX,
    search: "ring.maps.sync(id, SyncOp.POSTREAD);\n",
    replace: "",
    breaks: "no POSTREAD before the buffer is handed on",
  },
  {
    row: "mutant-M18",
    file: DATAPATH_RX,
    search: "while (taken > 0) ring.owner[ring.pktReqIds[--taken]!] = RxOwner.DEVICE;",
    replace: "",
    breaks: "buffers of a refused packet are nobody's",
  },
  {
    row: "mutant-M19",
    file: "frontend/ena/datapath-tx.ts",
    search: "if (ring.sq.burstExceededBy(descs)) txDoorbell(ring);",
    replace: "",
    breaks: "the device's burst limit is exceeded",
  },
];

export const survivors: readonly Mutant[] = edits.map((edit) => ({
  ...edit,
  test: SURVIVORS_TEST,
}));
