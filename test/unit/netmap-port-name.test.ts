/**
 * Port names. The table has the same inputs as netmap's own (utils/ctrl-api-test.c,
 * "nmreq_parsing") except one: "netmap:eth0&" is an error in netmap's table, but its parser accepts
 * it, as ours does.
 */
import { describe, expect, test } from "vitest";
import { NetmapError } from "../../frontend/netmap/errors.ts";
import { RegFlag, RegMode } from "../../frontend/netmap/flags.ts";
import { parsePortName } from "../../frontend/netmap/port-name.ts";

const { EXCLUSIVE, ZCOPY_MON, MONITOR_RX, MONITOR_TX, TX_RINGS_ONLY, RX_RINGS_ONLY } = RegFlag;
const { ALL_NIC, ONE_NIC, NIC_SW, SW, ONE_SW } = RegMode;

// input, name, mode, ring, flags, memory id, options
type Row = readonly [string, string, number, number, number, number, string];
const GOOD: readonly Row[] = [
  ["netmap:eth0", "eth0", ALL_NIC, 0, 0, 0, ""],
  ["netmap:eth0-1", "eth0", ONE_NIC, 1, 0, 0, ""],
  ["netmap:eth0-4094", "eth0", ONE_NIC, 4094, 0, 0, ""],
  ["netmap:eth0/x", "eth0", ALL_NIC, 0, EXCLUSIVE, 0, ""],
  ["netmap:eth0/z", "eth0", ALL_NIC, 0, ZCOPY_MON, 0, ""],
  ["netmap:eth0/r", "eth0", ALL_NIC, 0, MONITOR_RX, 0, ""],
  ["netmap:eth0/t", "eth0", ALL_NIC, 0, MONITOR_TX, 0, ""],
  ["netmap:eth0-2/Tx", "eth0", ONE_NIC, 2, TX_RINGS_ONLY | EXCLUSIVE, 0, ""],
  ["netmap:eth0*", "eth0", NIC_SW, 0, 0, 0, ""],
  ["netmap:eth0^", "eth0", SW, 0, 0, 0, ""],
  ["netmap:eth0^3", "eth0", ONE_SW, 3, 0, 0, ""],
  ["netmap:eth0^/R", "eth0", SW, 0, RX_RINGS_ONLY, 0, ""],
  ["netmap:eth0*/x@5", "eth0", NIC_SW, 0, EXCLUSIVE, 5, ""],
  ["netmap:eth0@2", "eth0", ALL_NIC, 0, 0, 2, ""],
  ["netmap:eth0@2/R", "eth0", ALL_NIC, 0, RX_RINGS_ONLY, 2, ""],
  ["netmap:eth0@netmap:lo/R", "eth0", ALL_NIC, 0, 0, 0, "@netmap:lo/R"],
  ["netmap:eth0/R@xxx", "eth0", ALL_NIC, 0, RX_RINGS_ONLY, 0, "@xxx"],
  ["netmap:eth0@2/R@2", "eth0", ALL_NIC, 0, RX_RINGS_ONLY, 2, ""],
  ["vale0:0", "vale0:0", ALL_NIC, 0, 0, 0, ""],
  ["vale:0", "vale:0", ALL_NIC, 0, 0, 0, ""],
  ["valeXXX:YYY", "valeXXX:YYY", ALL_NIC, 0, 0, 0, ""],
  ["valeXXX:YYY-4", "valeXXX:YYY", ONE_NIC, 4, 0, 0, ""],
  ["netmap:14", "14", ALL_NIC, 0, 0, 0, ""],
  ["netmap:eth0&", "eth0&", ALL_NIC, 0, 0, 0, ""],
  ["netmap:pipe{0", "pipe{0", ALL_NIC, 0, 0, 0, ""],
  ["netmap:pipe{in", "pipe{in", ALL_NIC, 0, 0, 0, ""],
  ["netmap:pipe}in-7", "pipe}in", ONE_NIC, 7, 0, 0, ""],
  ["vale0:0{0", "vale0:0{0", ALL_NIC, 0, 0, 0, ""],
  ["vale0:0@opt", "vale0:0", ALL_NIC, 0, 0, 0, "@opt"],
  ["vale0:0/Tx@opt", "vale0:0", ALL_NIC, 0, TX_RINGS_ONLY | EXCLUSIVE, 0, "@opt"],
  ["vale0:0-3@opt", "vale0:0", ONE_NIC, 3, 0, 0, "@opt"],
];

const BAD: readonly (readonly [string, RegExp])[] = [
  ["", /empty port name/],
  ["eth0", /begin with netmap: or vale/],
  ["netmap", /no colon/],
  ["netmap:", /no name/],
  ["netmap:^", /no name/],
  ["netmap:{", /pipe needs a name/],
  ["netmap:vale0:0-", /ring number/],
  ["netmapXXX:eth0", /no identifier may stand/],
  ["vale-1:0", /"-1" is no identifier/],
  ["netmap:pipe{1}2", /"1}2" is no pipe name/],
  ["netmap:eth0-", /ring number/],
  ["netmap:eth0-4095", /not below 4095/],
  ["netmap:eth0^4095", /not below 4095/],
  ["netmap:eth0/", /no flags/],
  ["netmap:eth0/q", /"q" is no flag/],
  ["netmap:eth0*k", /"k" is not expected/],
  ["netmap:eth0@2/R@3", /two memory ids, 2 and 3/],
  ["netmap:eth0@0", /begin with 1/],
  ["netmap:eth0@", /no memory id/],
  ["vale0:0@", /no memory id/],
  [`netmap:${"a".repeat(64)}`, /at most 63/],
];

describe("port names", () => {
  test.each(GOOD)("%s", (input, name, mode, ringId, flags, memId, options) => {
    expect(parsePortName(input)).toEqual({ name, mode, ringId, flags, memId, options });
  });

  test.each(BAD)("%s is refused", (input, why) => {
    expect(() => parsePortName(input)).toThrow(why);
    expect(() => parsePortName(input)).toThrow(NetmapError);
  });

  test("the + of netmap.h's comment is part of a name, not NIC and host rings", () => {
    expect(parsePortName("netmap:foo+").name).toBe("foo+");
  });
});
