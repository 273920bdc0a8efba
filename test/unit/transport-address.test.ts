/** Addresses as users write them, and the resolution of host names. */
import { ADDRCONFIG } from "node:dns";
import { describe, expect, it } from "vitest";
import { hostPort, target } from "../../cli/common/options.ts";
import { httpUrl, nicUrl } from "../../shared/transport/address.ts";
import { addressOf, DIALLING } from "../../shared/transport/lookup.ts";

describe("ux-S1 an address without a port means a device's port", () => {
  it.each([
    ["127.0.0.1", "ws://127.0.0.1:7700/nic"],
    ["localhost", "ws://localhost:7700/nic"],
    ["Lab.Example", "ws://lab.example:7700/nic"],
    ["::1", "ws://[::1]:7700/nic"],
    ["2001:db8::7700", "ws://[2001:db8::7700]:7700/nic"],
    ["[::1]", "ws://[::1]:7700/nic"],
    ["ws://lab", "ws://lab:7700/nic"],
    ["WS://lab/", "ws://lab:7700/nic"],
    ["http://lab", "ws://lab:7700/nic"],
    ["http://lab/", "ws://lab:7700/nic"],
    // No device speaks TLS, so a proxy answers, on the default port of its protocol.
    ["wss://lab", "wss://lab/nic"],
    ["https://lab", "wss://lab/nic"],
    ["wss://lab:443", "wss://lab/nic"],
    ["wss://[2001:db8::1]", "wss://[2001:db8::1]/nic"],
  ])("%s is dialled as %s", (written, url) => {
    expect(nicUrl(written)).toBe(url);
    // A URL that ringwire made is read the same way again.
    expect(nicUrl(nicUrl(written))).toBe(url);
  });

  it.each([
    ["lab:80", "ws://lab:80/nic"],
    ["ws://lab:80", "ws://lab:80/nic"],
    ["http://lab:80/x?y=1", "ws://lab:80/x?y=1"],
    ["lab:443", "ws://lab:443/nic"],
    ["wss://lab:80", "wss://lab:80/nic"],
    ["[::1]:80", "ws://[::1]:80/nic"],
    ["127.0.0.1:7701/nic", "ws://127.0.0.1:7701/nic"],
  ])("%s keeps its port: %s", (written, url) => {
    expect(nicUrl(written)).toBe(url);
    expect(nicUrl(nicUrl(written))).toBe(url);
  });

  it("the pages of a device are at the same place", () => {
    expect(httpUrl("lab", "/status")).toBe("http://lab:7700/status");
    expect(httpUrl("ws://lab:80/nic?x", "/status")).toBe("http://lab:80/status");
    expect(httpUrl("wss://lab/nic", "/status")).toBe("https://lab/status");
    expect(httpUrl("::1", "/")).toBe("http://[::1]:7700/");
  });

  it("and so it is for --listen", () => {
    expect(hostPort.parse("0.0.0.0")).toEqual({ host: "0.0.0.0", port: 7700 });
    expect(hostPort.parse("::1")).toEqual({ host: "::1", port: 7700 });
    expect(hostPort.parse("[::]")).toEqual({ host: "::", port: 7700 });
    expect(hostPort.parse("lab")).toEqual({ host: "lab", port: 7700 });
  });
});

describe("ux-S2 a number is no address", () => {
  it.each([
    ["7700", /"7700" is a number and no host; write HOST:PORT, as 127\.0\.0\.1:7700/],
    ["1", /127\.0\.0\.1:1$/],
    ["70000", /"70000" is a number and no host; .*127\.0\.0\.1:PORT/],
    ["4294967295", /is a number and no host/],
    ["ws://7700", /"7700" is a number and no host/],
    ["http://7700/", /"7700" is a number and no host/],
    ["7700:7700", /"7700" is not a whole IPv4 address/],
    ["127.1", /"127.1" is not a whole IPv4 address; .*127\.0\.0\.1/],
    ["127.1:7700", /not a whole IPv4/],
    ["010.0.0.1", /not a whole IPv4/],
    ["0x7f.0.0.1", /not a whole IPv4/],
    ["0x7f000001:7700", /not a whole IPv4/],
    ["127.0.0.1.", /not a whole IPv4/],
    ["７７００", /not a whole IPv4/],
    ["256.0.0.1", /is not an address/],
    ["1.2.3.4.5", /is not an address/],
    ["[::1]:", /"" is not a port/],
    ["h:", /"" is not a port/],
    ["h:65536", /"65536" is not a port/],
    ["h:0", /port 0/],
    ["h:http", /"http" is not a port/],
    ["h:-1", /"-1" is not a port/],
    ["::1:7700", /two ways; write \[::1\]:7700, or \[::1:7700\]:7700/],
    ["1:2:3", /brackets: \[::1\]/],
    ["[h]:1", /holds no IPv6/],
    ["[::1", /brackets/],
    ["fe80::1%eth0", /zone/],
    ["[fe80::1%eth0]:7700", /zone/],
    ["", /names no host/],
    [":7700", /names no host/],
    ["ws://", /names no host/],
    ["ws:///nic", /names no host/],
    [" 127.0.0.1", /is not an address/],
    ["127.0.0.1\n", /is not an address/],
    ["a b", /is not an address/],
    ["h%41", /is not an address/],
    ["a<b", /is not an address/],
    ["ftp://h:1", /write ws:\/\/h:1/],
    ["h://x", /write ws:\/\/x/],
    ["ws://u:p@h:1", /"h:1": credentials/],
    ["u@h", /"h": credentials/],
  ])("%j is refused", (written, why) => {
    expect(() => nicUrl(written)).toThrow(why);
    expect(() => nicUrl(written)).toThrow(TypeError);
    const { error } = target.safeParse(written);
    expect(error?.issues[0]?.message).toMatch(/^takes an address: /);
  });

  it.each(["7700", "1", "127.1:7700", "0:7700", "::1:7700", "[::1]:x", "http://h:1", "h:7700/x"])(
    "%j is no place to listen",
    (text) =>
      expect(hostPort.safeParse(text).error?.issues[0]?.message).toMatch(/^takes HOST:PORT/),
  );
});

describe("case-W7 the name of this machine", () => {
  const lookup = (host: string, all: boolean, family: 0 | 4 | 6 = 0) =>
    new Promise((resolve, reject) => {
      DIALLING.lookup(host, { hints: ADDRCONFIG, all, family }, (error, address, kind) => {
        if (error !== null) reject(error);
        else resolve(all ? address : [address, kind]);
      });
    });

  it.each(["localhost", "LOCALHOST", "localhost.", "a.localhost", "a.b.localhost."])(
    "%s is loopback, whatever a resolver says",
    async (name) => {
      expect(await lookup(name, true)).toEqual([
        { address: "127.0.0.1", family: 4 },
        { address: "::1", family: 6 },
      ]);
      expect(await lookup(name, false)).toEqual(["127.0.0.1", 4]);
      expect(await lookup(name, false, 6)).toEqual(["::1", 6]);
      expect(await addressOf(name)).toBe("127.0.0.1");
    },
  );

  it("addresses stand for themselves, and what is not known is an error", async () => {
    expect(await addressOf("::1")).toBe("::1");
    expect(await lookup("192.0.2.7", false)).toEqual(["192.0.2.7", 4]);
    await expect(addressOf("no-such-host.invalid")).rejects.toThrow(/no-such-host\.invalid/);
    await expect(lookup("notlocalhost.invalid", true)).rejects.toThrow(/notlocalhost/);
  });
});
