/**
 * The texts for Xen's slots, entries, calls and messages. The hex is that of the other xen-* tests.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  describeCtrlRequest,
  describeCtrlResponse,
  describeErrno,
  describeGntst,
  describeGrantEntry,
  describeHypercall,
  describeRingIndexes,
  describeXsMessage,
} from "../../cli/trace/xen.ts";
import { holds } from "../support/counts.ts";

const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));

describe("Xen in words", () => {
  test("control slots", () => {
    expect(describeCtrlRequest(bytesOf("221106000403020180000000d0c0b0a0"))).toBe(
      "ctrl SET_HASH_MAPPING id=4386 data=16909060,128,2695938256",
    );
    expect(describeCtrlResponse(bytesOf("2211060003000000efbeadde00000000"))).toBe(
      "ctrl done SET_HASH_MAPPING id=4386 BUFFER_OVERFLOW data=3735928559",
    );
  });

  test("ring indexes", () => {
    expect(describeRingIndexes(0, bytesOf("040302011413121184838281feffffff"))).toBe(
      "req_prod=16909060 req_event=286397204 rsp_prod=2172814212 rsp_event=4294967294",
    );
    expect(describeRingIndexes(12, bytesOf("01000000"))).toBe("rsp_event=1");
    expect(describeRingIndexes(0, bytesOf("0100"))).toBe("2 bytes, no indexes");
  });

  test("grant entries", () => {
    expect(describeGrantEntry(1, bytesOf("1500f17f98badcfe"))).toBe(
      "PERMIT_ACCESS dom=IO frame=0xfedcba98 READONLY|WRITING",
    );
    expect(describeGrantEntry(1, bytesOf("0600000000000000"))).toBe(
      "ACCEPT_TRANSFER dom=0 frame=0x0 COMMITTED",
    );
    expect(describeGrantEntry(2, bytesOf("8100020100000000efcdab7856341200"))).toBe(
      "PERMIT_ACCESS dom=258 frame=0x12345678abcdef PAT",
    );
    expect(describeGrantEntry(2, bytesOf("05010300bc0a2301ffff0f0000000000"))).toBe(
      "PERMIT_ACCESS dom=3 frame=0xfffff bytes=2748+291 READONLY|SUB_PAGE",
    );
    expect(describeGrantEntry(2, bytesOf("0300040006050000b0a0908000000000"))).toBe(
      "TRANSITIVE dom=4 by=1286:2156961968",
    );
    expect(describeGrantEntry(1, bytesOf("0000000000000000"))).toBe("INVALID dom=0 frame=0x0");
  });

  test("hypercalls", () => {
    const map = "60504030201000000600000084838281f07ffdff94939291f0e1d1c1b1a10100";
    expect(describeHypercall(20, 0, bytesOf(map))).toBe(
      "grant_table_op MAP_GRANT_REF hostAddr=0x102030405060 flags=6 ref=0x81828384 dom=SELF " +
        "status=BAD_GNTREF handle=0x91929394 devBusAddr=0x1a1b1c1d1e1f0",
    );
    expect(
      describeHypercall(32, 5, bytesOf("f07f0000d0c0b0a0020000000000000006050000c1b1a191")),
    ).toBe(
      "event_channel_op STATUS dom=SELF port=0xa0b0c0d0 status=INTERDOMAIN remoteDom=1286 " +
        "remotePort=0x91a1b1c1",
    );
    expect(describeHypercall(29, 2, bytesOf("02000000"))).toBe("sched_op SHUTDOWN reason=SUSPEND");
    const sends = "01000000".repeat(6);
    expect(describeHypercall(32, 4, bytesOf(`${sends}ff`))).toBe(
      "event_channel_op SEND port=1; port=1; port=1; port=1; 2 more; 1 bytes behind",
    );
    expect(describeHypercall(32, 11, bytesOf("00"))).toBe("event_channel_op INIT_CONTROL bytes=1");
    expect(describeHypercall(20, 0, bytesOf("00"))).toBe(
      "grant_table_op MAP_GRANT_REF truncated: 1 of 32 bytes",
    );
    expect(describeHypercall(17, 0, bytesOf(""))).toBe("hypercall 17 command=0 bytes=0");
    expect([describeErrno(0), describeErrno(22), describeErrno(200)]).toEqual([
      "ok",
      "EINVAL",
      "?200",
    ]);
    expect(describeGntst(-8)).toBe("PERMISSION_DENIED");
  });

  test("xenstore messages; what a guest sends stays one line", () => {
    const write = "0b00000007000000030201001400000064657669" + "63652f7669662f302f73746174650034";
    expect(describeXsMessage(bytesOf(write))).toBe('WRITE req=7 tx=66051 "device/vif/0/state" "4"');
    expect(describeXsMessage(bytesOf(`02000000${"00".repeat(12)}`))).toBe("READ req=0");
    expect(describeXsMessage(bytesOf("100000000100000000000000020000000a00"))).toBe(
      'ERROR req=1 "\\n"',
    );
    expect(describeXsMessage(bytesOf("02"))).toBe("malformed: 1 bytes are no message header");
    const long = `0b000000${"00".repeat(8)}c8000000${"61".repeat(200)}`;
    expect(describeXsMessage(bytesOf(long))).toBe(`WRITE req=0 "${"a".repeat(128)}..."`);
  });

  test("what is too short is said to be so", () => {
    for (const describeShort of [
      describeCtrlRequest,
      describeCtrlResponse,
      (b: Uint8Array) => describeGrantEntry(1, b),
      (b: Uint8Array) => describeGrantEntry(2, b),
    ]) {
      expect(describeShort(new Uint8Array(1))).toContain("truncated: 1 of");
    }
  });

  test("never throws, and never makes two lines", () => {
    const any = fc.uint8Array({ maxLength: 80 });
    holds(
      fc.property(any, fc.nat(40), fc.nat(16), (bytes, number, command) => {
        const told = [
          describeCtrlRequest(bytes),
          describeCtrlResponse(bytes),
          describeRingIndexes(number, bytes),
          describeGrantEntry(1, bytes),
          describeGrantEntry(2, bytes),
          describeHypercall(number, command, bytes),
          describeXsMessage(bytes),
          // The header's length is right, so that the strings after it are parsed.
          describeXsMessage(
            Uint8Array.of(11, ...new Uint8Array(11), bytes.length, 0, 0, 0, ...bytes),
          ),
        ];
        for (const text of told) expect(text).not.toMatch(/\n/);
      }),
      { numRuns: 1000 },
    );
  });
});
