/** Words of a filter that libpcap would look up on the network. Nothing is looked up here. */
import { expect, it } from "vitest";
import { networkNameIn } from "../../shared/capture/filter-names.ts";

it.each([
  "host 10.0.0.1 and tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
  "ether host aa:bb:cc:dd:ee:ff",
  "ether src 00-11-22-33-44-55 or dst 0011.2233.4455",
  "net 10.0.0.0 mask 255.0.0.0",
  "ip6 host fe80::1 and port 80",
  "src or dst port http",
  "host 10.0.0.1 or (port http or https)",
  "host 1.2.3.4 and icmp6[icmp6type] == icmp6-echo",
  "dst net 2001:db8::/32",
  "ether[6:4]=0x01020304 and host ::1",
  "portrange ftp-data-ssh or host 10.0.0.0",
  "ip proto \\tcp and not ip6 protochain \\udp",
  "host ::ffff:1.2.3.4 and vlan 3 and pppoes",
  "gateway 10.0.0.1",
  "",
])("attack-S15 none in %j", (text) => {
  expect(networkNameIn(text)).toBeUndefined();
});

it.each([
  ["host x", "x"],
  ["src evil", "evil"],
  ["not host a.b", "a.b"],
  ["host \\tcp", "tcp"],
  ["host tcp.example", "tcp.example"],
  ["host 1.2.3.4.5", "1.2.3.4.5"],
  ["host abc:def", "abc"],
  ["net loopback/8", "loopback"],
  ["ether host gate", "gate"],
  ["port 80 or (host y) ", "y"],
  // A word after parentheses gets the qualifier before them.
  ["host 10.0.0.1 or (port 80) or foo", "foo"],
  ["host 10.0.0.1 or (port 80 or http) or evil.com", "evil.com"],
  ["port 80 and (src net (lab or lab2))", "lab"],
])("attack-S15 in %j: %s", (text, name) => {
  expect(networkNameIn(text)).toBe(name);
});

it("attack-S15 a text of the longest kind is looked at quickly", () => {
  for (const piece of ["(", ":", "a:", "1.", "\\", "a-", "host "]) {
    const text = piece.repeat(4096 / piece.length);
    const before = process.cpuUsage().user;
    networkNameIn(text);
    // Less than a second of work; a few milliseconds are usual.
    expect(process.cpuUsage(undefined).user - before).toBeLessThan(1_000_000);
  }
});
