/** URLs that lead a frontend back to its present device. */
import { describe, expect, it } from "vitest";
import { isOwnAddress } from "../../device/own-address.ts";
import { nicUrl } from "../../shared/transport/address.ts";

type Row = readonly [to: string, listening: string, reachedAt: string];

const isOwn = ([to, listening, reachedAt]: Row): boolean =>
  isOwnAddress(nicUrl(to), { listening, port: 7700, reachedAt });

describe("ux-S9 a URL", () => {
  it.each<Row>([
    ["127.0.0.1", "127.0.0.1", "127.0.0.1"],
    ["localhost:7700", "127.0.0.1", "127.0.0.1"],
    ["http://LOCALHOST:7700/", "::1", "::1"],
    ["a.localhost", "0.0.0.0", "127.0.0.1"],
    ["127.0.0.9", "0.0.0.0", "127.0.0.1"],
    ["127.0.0.1", "::", "::ffff:127.0.0.1"],
    ["[::1]:7700", "::", "::ffff:127.0.0.1"],
    ["[0:0::1]:7700", "::1", "::1"],
    ["192.0.2.1", "0.0.0.0", "192.0.2.1"],
    ["192.0.2.1", "::", "::ffff:192.0.2.1"],
    ["[2001:db8::1]", "::", "2001:db8::1"],
  ])("%s is the device at %s, reached at %s", (...row) => {
    expect(isOwn(row)).toBe(true);
  });

  it.each<Row>([
    ["127.0.0.1:7701", "127.0.0.1", "127.0.0.1"],
    ["127.0.0.2", "127.0.0.1", "127.0.0.1"],
    ["[::1]:7700", "0.0.0.0", "127.0.0.1"],
    ["wss://localhost:7700", "127.0.0.1", "127.0.0.1"],
    ["lab", "0.0.0.0", "127.0.0.1"],
    ["192.0.2.2", "0.0.0.0", "192.0.2.1"],
    // The frontend is on another machine, whose loopback is not the device's.
    ["localhost", "0.0.0.0", "192.0.2.1"],
    ["127.0.0.1", "::", "::ffff:192.0.2.1"],
  ])("%s may not be the device at %s, reached at %s", (...row) => {
    expect(isOwn(row)).toBe(false);
  });
});
