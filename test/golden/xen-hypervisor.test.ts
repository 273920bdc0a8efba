/**
 * event_channel_op, sched_op and xs_wire, byte for byte.
 * How the hex was made: see xen-netif.test.ts.
 */
import { describe, expect, test } from "vitest";
import {
  evtchnAllocUnbound,
  evtchnBindInterdomain,
  evtchnBindVcpu,
  evtchnClose,
  evtchnReset,
  evtchnSend,
  evtchnStatus,
  evtchnUnmask,
} from "../../shared/xen/event-channel.ts";
import { schedShutdown } from "../../shared/xen/sched.ts";
import {
  parseXsMessage,
  parseXsStrings,
  splitXsPayload,
  XS_HEADER_SIZE,
  XsType,
  xsBytes,
  xsHeader,
  xsMalformed,
  xsMessage,
  xsPathAndValue,
  xsStrings,
  xsText,
} from "../../shared/xen/xenstore.ts";
import { golden } from "./ena-golden.ts";
import { decodes, encodes } from "./xen-golden.ts";

describe("event_channel_op", () => {
  golden("evtchn_alloc_unbound", evtchnAllocUnbound, 8, "f07f0201d0c0b0a0", {
    dom: 0x7ff0,
    remoteDom: 0x102,
    port: 0xa0b0c0d0,
  });
  golden("evtchn_bind_interdomain", evtchnBindInterdomain, 12, "02010000d0c0b0a004030201", {
    remoteDom: 0x102,
    remotePort: 0xa0b0c0d0,
    localPort: 0x01020304,
  });
  golden("evtchn_close", evtchnClose, 4, "d0c0b0a0", { port: 0xa0b0c0d0 });
  golden("evtchn_send", evtchnSend, 4, "d1c0b0a0", { port: 0xa0b0c0d1 });
  golden("evtchn_unmask", evtchnUnmask, 4, "d2c0b0a0", { port: 0xa0b0c0d2 });
  golden("evtchn_status", evtchnStatus, 24, "f07f0000d0c0b0a0020000000403020106050000c1b1a191", {
    dom: 0x7ff0,
    port: 0xa0b0c0d0,
    status: 2,
    vcpu: 0x01020304,
    remoteDom: 0x506,
    remotePort: 0x91a1b1c1,
  });
  golden("evtchn_bind_vcpu", evtchnBindVcpu, 8, "d0c0b0a004030201", {
    port: 0xa0b0c0d0,
    vcpu: 0x01020304,
  });
  golden("evtchn_reset", evtchnReset, 2, "f07f", { dom: 0x7ff0 });
});

describe("sched_op", () => {
  golden("sched_shutdown", schedShutdown, 4, "02000000", { reason: 2 });
});

const WRITE_HEX = "0b0000000700000003020100140000006465766963652f7669662f302f73746174650034";
const EVENT_HEX = "0f0000000000000000000000120000006261636b656e642f737461746500746f6b00";
const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

describe("xsd_sockmsg", () => {
  const HEX = "1600000004030201d0c0b0a0ff0f0000";
  test("16 bytes", () => expect(HEX.length).toBe(2 * XS_HEADER_SIZE));
  test("decodes", () =>
    decodes(HEX, { type: 22, reqId: 0x01020304, txId: 0xa0b0c0d0, len: 0xfff }, xsHeader));
  test("encodes every byte", () =>
    encodes(HEX, (v, at) => xsHeader.write(v, at, 22, 0x01020304, 0xa0b0c0d0, 0xfff)));

  test("WRITE: a path, then the value without an end mark", () => {
    const payload = xsPathAndValue("device/vif/0/state", xsBytes("4"));
    expect(hexOf(xsMessage(XsType.WRITE, 7, 0x10203, payload))).toBe(WRITE_HEX);
    const message = parseXsMessage(bytesOf(WRITE_HEX))!;
    expect([message.type, message.reqId, message.txId]).toEqual([11, 7, 0x10203]);
    const { first, rest } = splitXsPayload(message.payload)!;
    expect([first, xsText(rest)]).toEqual(["device/vif/0/state", "4"]);
  });

  test("WATCH_EVENT: strings that each end", () => {
    const payload = xsStrings("backend/state", "tok");
    expect(hexOf(xsMessage(XsType.WATCH_EVENT, 0, 0, payload))).toBe(EVENT_HEX);
    const message = parseXsMessage(bytesOf(EVENT_HEX))!;
    expect(message.type).toBe(15);
    expect(parseXsStrings(message.payload)).toEqual(["backend/state", "tok"]);
  });

  test("an octet of a value survives, whatever it is", () => {
    const all = Uint8Array.from({ length: 256 }, (_, i) => i);
    expect(hexOf(xsBytes(xsText(all)))).toBe(hexOf(all));
  });

  test("bytes that are not exactly one message are none, and it is said why", () => {
    const whole = bytesOf(EVENT_HEX);
    expect(xsMalformed(whole)).toBeUndefined();
    for (const [bytes, why] of [
      [whole.subarray(0, 15), "15 bytes are no message header"],
      [whole.subarray(0, 33), "17 bytes of payload, the header says 18"],
      [Uint8Array.of(...whole, 0), "19 bytes of payload, the header says 18"],
      [bytesOf(`${"00".repeat(12)}01100000`), "a payload of 4097 bytes"],
    ] as const) {
      expect(xsMalformed(bytes)).toBe(why);
      expect(parseXsMessage(bytes)).toBeUndefined();
    }
  });

  test("the longest payload is 4096 bytes; what we must not build throws", () => {
    const longest = xsMessage(XsType.WRITE, 1, 0, new Uint8Array(4096));
    expect(xsMalformed(longest)).toBeUndefined();
    expect(() => xsMessage(XsType.WRITE, 1, 0, new Uint8Array(4097))).toThrow(RangeError);
  });

  test("strings: none, empty ones, and one that does not end", () => {
    expect(parseXsStrings(new Uint8Array(0))).toEqual([]);
    expect(parseXsStrings(Uint8Array.of(0))).toEqual([""]);
    expect(parseXsStrings(Uint8Array.of(0x61, 0, 0))).toEqual(["a", ""]);
    expect(parseXsStrings(Uint8Array.of(0x61, 0, 0x62))).toBeUndefined();
    expect(splitXsPayload(Uint8Array.of(0x61))).toBeUndefined();
  });
});
