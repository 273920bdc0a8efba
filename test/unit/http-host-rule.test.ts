import { hostname } from "node:os";
import { describe, expect, it } from "vitest";
import { HostRule, isForeign, ownNames } from "../../shared/http/host-rule.ts";
import { readTarget, TargetError } from "../../shared/http/target.ts";

const asked = (url: string, ...hosts: string[]) =>
  readTarget({ url, rawHeaders: hosts.flatMap((host) => ["hOst", host]) });

describe("the target of a request", () => {
  it.each([
    ["/status", "127.0.0.1:7700", "127.0.0.1", "/status", ""],
    ["/status?a=1?b", "LOCALHOST.:7700", "localhost", "/status", "a=1?b"],
    ["/%73tatus", "[::1]:7700", "[::1]", "/status", ""],
    ["/status", "[0:0::1]", "[::1]", "/status", ""],
    ["/status", "[fe80::1%25eth0]:1", "[fe80::1]", "/status", ""],
    ["/status", "[fe80::1%eth0]", "[fe80::1]", "/status", ""],
    ["/status", "127.1", "127.0.0.1", "/status", ""],
    ["/status", "0x7f000001:", "127.0.0.1", "/status", ""],
    ["/status", "Evil.Example.", "evil.example", "/status", ""],
    ["//status", "a", "a", "//status", ""],
    ["*", "a", "a", "*", ""],
    // The host in the target counts, and the header's does not.
    ["http://lab.test:7700/status?x", "evil.example", "lab.test", "/status", "x"],
    ["HTTP://127.0.0.1", "evil.example", "127.0.0.1", "/", ""],
    ["ws://[::1]:1?q", "evil.example", "[::1]", "/", "q"],
  ])("case-X6 %s of %s", (url, host, hostname, path, query) => {
    expect(asked(url, host)).toMatchObject({ hostname, path, query });
  });

  it.each<[string, string[], RegExp]>([
    ["/status", [], /no Host/],
    ["/status", ["a", "a"], /more than one Host/],
    ["http://a/status", [], /no Host/],
    ["http://a/status", ["a", "b"], /more than one Host/],
    ["/status", [""], /names no host/],
    ["/status", [":7700"], /no host/],
    ["/status", ["user@localhost"], /user name/],
    ["http://user:x@localhost/status", ["localhost"], /user name/],
    ["http:///status", ["localhost"], /names no host/],
    ["/status", ["localhost, evil.example"], /no host with an optional port/],
    ["/status", ["localhost:99999"], /no host with an optional port/],
    ["/status", ["localhost:x"], /no host with an optional port/],
    ["/status", ["localhost/evil"], /no host with an optional port/],
    ["/status", ["localhost#.evil"], /no host with an optional port/],
    ["/status", ["local\thost"], /no host with an optional port/],
    ["/status", ["::1"], /no host with an optional port/],
    ["/status", ["[::1"], /no host with an optional port/],
    ["/status", ["l\u00f6calhost"], /no host with an optional port/],
    ["/status", ["256.1.1.1"], /no host with an optional port/],
    ["ftp://localhost/status", ["localhost"], /neither a path nor an http URL/],
    ["localhost:7700", ["localhost"], /neither a path nor an http URL/],
    ["status", ["localhost"], /neither a path nor an http URL/],
    ["/%zz", ["localhost"], /percent sign/],
    ["/%ff", ["localhost"], /percent sign/],
  ])("attack-S8: %s of %j is refused", (url, hosts, says) => {
    expect(() => asked(url, ...hosts)).toThrow(TargetError);
    expect(() => asked(url, ...hosts)).toThrow(says);
  });
});

describe("host names that are served", () => {
  const rule = new HostRule(["Lab.Example."], ["box"]);

  it.each(["localhost", "a.b.localhost", "127.0.0.1", "10.0.0.1", "[::1]", "[2001:db8::1]"])(
    "attack-S8: %s",
    (name) => expect(rule.allows(name)).toBe(true),
  );

  it.each(["lab.example", "box"])("attack-S8: %s, which is listed", (name) => {
    expect(rule.allows(name)).toBe(true);
  });

  it.each([
    "evil.example",
    "localhost.evil.example",
    "evillocalhost",
    "box.evil.example",
    "www.lab.example",
    "lab",
    "127.0.0.1.evil.example",
    "",
  ])("attack-S8: not %s", (name) => expect(rule.allows(name)).toBe(false));

  it("attack-S8: the sentence names the flag", () => {
    expect(rule.refusal("evil.example")).toContain("--allow-host evil.example");
  });

  it("attack-S8: the machine's own names, in full, short and by multicast DNS", () => {
    expect(new HostRule().allows(hostname().toLowerCase())).toBe(true);
    const hosts =
      "127.0.1.1 Box.lab.example box # box.evil\n::1 localhost\n10.0.0.1 box.other boxer\n";
    expect(ownNames("box", hosts).sort()).toEqual(["box", "box", "box.lab.example", "box.local"]);
    expect(ownNames("box.lab.example", "")).toEqual(["box.lab.example", "box", "box.local"]);
    expect(ownNames("", "127.0.0.1 localhost")).toEqual([]);
  });
});

describe("pages of another origin", () => {
  it.each<[string, Record<string, string>, string, boolean]>([
    ["a program", {}, "localhost:7700", false],
    ["its own page", { origin: "http://localhost:7700" }, "LOCALHOST:7700", false],
    ["its own page by TLS", { origin: "https://lab.example" }, "lab.example:443", false],
    ["the default port", { origin: "http://lab.example" }, "lab.example:80", false],
    ["a typed address", { "sec-fetch-site": "none" }, "localhost", false],
    ["a fetch of its own", { "sec-fetch-site": "same-origin" }, "localhost", false],
    ["another site", { "sec-fetch-site": "cross-site" }, "localhost", true],
    ["another port", { "sec-fetch-site": "same-site" }, "localhost", true],
    ["a word to come", { "sec-fetch-site": "near-site" }, "localhost", true],
    ["two words", { "sec-fetch-site": "none, none" }, "localhost", true],
    ["another origin", { origin: "http://evil.example" }, "localhost:7700", true],
    ["another port's origin", { origin: "http://localhost:1" }, "localhost:7700", true],
    ["a name behind", { origin: "http://localhost:7700.evil.example" }, "localhost:7700", true],
    ["no origin at all", { origin: "null" }, "localhost", true],
    ["two origins", { origin: "http://localhost, http://localhost" }, "localhost", true],
    ["a user name", { origin: "http://a@localhost" }, "localhost", true],
    ["a path", { origin: "http://localhost/" }, "localhost", true],
    ["another scheme", { origin: "ftp://localhost" }, "localhost", true],
    ["an empty one", { origin: "" }, "localhost", true],
  ])("attack-S8: %s", (_who, headers, host, foreign) => {
    expect(isForeign(headers, asked("/", host))).toBe(foreign);
  });
});
