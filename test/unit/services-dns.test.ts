/** The name server, over the whole host. */
import * as dns from "dns-packet";
import { describe, expect, it } from "vitest";
import {
  datagram,
  dhcpMessage,
  HOST_MAC,
  icmp6,
  SERVER_MAC,
  ServiceStage,
} from "../support/service-stage.ts";

const UNSPECIFIED = new Array<number>(16).fill(0);

const MAC = [0xbe, 0x67, 0x64, 0x89, 0xda, 0x81];
const A = [2, 0, 0, 0, 0, 1];
const HOST = { mac: A, ip: [10, 0, 0, 9] };
const SERVER = { ip: [10, 0, 0, 1], port: 53 };

function stage() {
  const made = new ServiceStage({
    address: "10.0.0.1/24",
    address6: "fd00:99::1/64",
    dhcp: { reserve: { web: "10.0.0.5", a: "10.0.0.6" } },
    dns: { domain: "x.lab" },
    gateway: { tap: "gw0" },
  });
  made.add("a", A);
  made.add("Dotted.Name", MAC);
  return made;
}

/** The raw answer to a query's bytes. */
function respond(made: ServiceStage, query: Uint8Array, sourcePort = 4000): Buffer | undefined {
  const [frame] = made.say(0, datagram(HOST, SERVER, query, sourcePort));
  if (frame === undefined) return undefined;
  const udp = frame.subarray(34);
  expect([...frame.subarray(0, 6)]).toEqual(A);
  return Buffer.from(udp.subarray(8, (udp[4]! << 8) | udp[5]!));
}

interface Options {
  readonly edns?: boolean;
  readonly made?: ServiceStage;
}
function ask(name: string, type: string, { edns = false, made = stage() }: Options = {}) {
  const query = dns.encode({
    type: "query",
    id: 77,
    flags: dns.RECURSION_DESIRED,
    questions: [{ name, type: type as dns.RecordType }],
    additionals: edns
      ? [{ type: "OPT", name: ".", udpPayloadSize: 4096, flags: 0, options: [] } as never]
      : [],
  });
  const answer = dns.decode(respond(made, query)!);
  expect(answer).toMatchObject({ id: 77, type: "response", flag_rd: true, flag_tc: false });
  return answer as dns.DecodedPacket & { readonly rcode: string };
}
const dataOf = (answer: dns.DecodedPacket) =>
  answer.answers!.map((record) => `${record.type} ${(record as { data: string }).data}`);

describe("a name", () => {
  it.each([
    ["web.x.lab", "A", ["A 10.0.0.5"]],
    ["WEB.X.Lab", "A", ["A 10.0.0.5"]],
    ["services.x.lab", "ANY", ["A 10.0.0.1", "AAAA fd00:99::1"]],
    ["gateway.x.lab", "A", ["A 10.0.0.254"]],
    ["1.0.0.10.in-addr.arpa", "PTR", ["PTR services.x.lab"]],
    ["254.0.0.10.in-addr.arpa", "PTR", ["PTR gateway.x.lab"]],
    ["5.0.0.10.in-addr.arpa", "PTR", ["PTR web.x.lab"]],
    [`1.${"0.".repeat(15)}0.0.0.0.0.0.0.0.9.9.0.0.0.0.d.f.ip6.arpa`, "PTR", ["PTR services.x.lab"]],
  ])("%s %s", (name, type, expected) => {
    const answer = ask(name, type);
    expect(answer).toMatchObject({ rcode: "NOERROR", flag_aa: true, flag_ra: false });
    expect(dataOf(answer)).toEqual(expected);
    // Resolvers compare the question, its letters included.
    expect(answer.questions![0]!.name).toBe(name);
  });

  it.each([
    ["a.x.lab", "AAAA", "NOERROR"],
    ["a.x.lab", "MX", "NOERROR"],
    ["dotted.name.x.lab", "A", "NOERROR"],
    ["x.lab", "A", "NOERROR"],
    ["nobody.x.lab", "A", "NXDOMAIN"],
    ["b.a.x.lab", "AAAA", "NXDOMAIN"],
  ])("%s %s has no such record: %s, with the SOA of the domain", (name, type, rcode) => {
    const answer = ask(name, type);
    expect(answer).toMatchObject({ rcode, flag_aa: true, answers: [] });
    expect(answer.authorities).toMatchObject([{ type: "SOA", name: "x.lab", ttl: 5 }]);
  });

  it.each([
    ["example.org", "A"],
    ["x.lab.org", "A"],
    ["ax.lab", "A"],
    [".", "NS"],
    ["1.2.0.192.in-addr.arpa", "PTR"],
    ["0.10.in-addr.arpa", "PTR"],
    ["300.0.0.10.in-addr.arpa", "PTR"],
    ["8.b.d.0.1.0.0.2.ip6.arpa", "PTR"],
    [`1.${"0.".repeat(23)}8.b.d.0.1.0.0.2.ip6.arpa`, "PTR"],
  ])("%s %s is refused, so that a resolver asks another server", (name, type) => {
    expect(ask(name, type)).toMatchObject({ rcode: "REFUSED", answers: [], authorities: [] });
  });

  it("leads to the lease of its NIC, and back", () => {
    const made = stage();
    const say = (type: number, options = {}) =>
      made.say(
        1,
        datagram(
          { mac: MAC, ip: [0, 0, 0, 0] },
          { mac: [255, 255, 255, 255, 255, 255], ip: [255, 255, 255, 255], port: 67 },
          dhcpMessage(MAC, type, options),
        ),
      )[0]!;
    const offered = [...say(1).subarray(58, 62)];
    expect(dataOf(ask("dotted.name.x.lab", "A", { made }))).toEqual([]);
    say(3, { 50: offered });
    expect(dataOf(ask("dotted.name.x.lab", "A", { made }))).toEqual([`A ${offered.join(".")}`]);
    const back = `${offered.toReversed().join(".")}.in-addr.arpa`;
    expect(dataOf(ask(back, "PTR", { made }))).toEqual(["PTR Dotted.Name.x.lab"]);
    expect(ask("9.0.0.10.in-addr.arpa", "PTR", { made })).toMatchObject({ rcode: "NXDOMAIN" });
  });

  it("with more addresses than fit has those that fit", () => {
    const domain = `${"d".repeat(60)}.${"e".repeat(60)}`;
    const made = new ServiceStage({
      address: "10.0.0.1/24",
      address6: "fd00::1/64",
      dns: { domain },
    });
    const name = "n".repeat(60);
    made.add(name, HOST_MAC);
    const prefix = [0xfd, ...new Array<number>(14).fill(0)];
    for (const last of [5, 6, 7, 8]) {
      made.say(0, icmp6({ type: 135, body: [0, 0, 0, 0, ...prefix, last], source: UNSPECIFIED }));
    }
    const rows = [false, true].map((edns) => {
      const { answers } = ask(`${name}.${domain}`, "AAAA", { edns, made });
      return answers!.length;
    });
    // 200 bytes with the question, and 210 for each address. With EDNS there is room for all.
    expect(rows).toEqual([1, 4]);
  });

  it("gets EDNS only if it asks so", () => {
    expect(ask("web.x.lab", "A", { edns: true }).additionals).toMatchObject([
      { type: "OPT", udpPayloadSize: 1232, ednsVersion: 0 },
    ]);
    expect(ask("web.x.lab", "A").additionals).toEqual([]);
  });
});

describe("a query", () => {
  const legal = () =>
    dns.encode({ type: "query", id: 9, questions: [{ name: "web.x.lab", type: "A" }] });
  const changed = (at: number, ...bytes: number[]) => {
    const query = legal();
    query.set(bytes, at);
    return query;
  };

  it.each([
    ["two questions", changed(4, 0, 2), 1],
    ["an answer", changed(6, 0, 1), 1],
    ["many additional records", changed(10, 255, 255), 1],
    ["an additional record that is not there", changed(10, 0, 1), 1],
    ["a label beyond its end", changed(12, 63), 1],
    ["a pointer to itself", changed(12, 0xc0, 12), 1],
    ["the operation STATUS", changed(2, 0x10), 4],
    ["a name of control characters", changed(13, 1, 2, 3), 5],
    ["a dot in a label and a space", changed(13, 32, 46), 5],
    ["the class CHAOS", changed(legal().length - 1, 3), 5],
  ])("with %s gets its code", (_, query, code) => {
    const answer = respond(stage(), query)!;
    expect(answer.subarray(0, 2)).toEqual(query.subarray(0, 2));
    expect(answer[2]! & 0x80).toBe(0x80);
    expect(answer[3]! & 15).toBe(code);
    expect(answer).toHaveLength(12);
  });

  it.each([
    ["is a response", changed(2, 0x80), 4000, "unsupported"],
    ["comes from port 53", legal(), 53, "unsupported"],
    ["comes from port 0", legal(), 0, "unsupported"],
    ["is cut", legal().subarray(0, 11), 4000, "malformed"],
    ["is longer than 512 bytes", Buffer.concat([legal(), Buffer.alloc(500)]), 4000, "malformed"],
  ])("that %s gets no answer", (_, query, port, reason) => {
    const made = stage();
    expect(respond(made, query, port)).toBeUndefined();
    expect(made.status.unanswered).toEqual({ [reason]: 1 });
  });

  it("with a wrong checksum gets no answer; without one it does", () => {
    const made = stage();
    const frame = datagram(HOST, { ...SERVER, mac: SERVER_MAC }, legal(), 4000);
    frame[40]! ^= 1;
    expect(made.say(0, frame)).toEqual([]);
    expect(made.status.unanswered).toEqual({ checksum: 1 });
    frame.set([0, 0], 40);
    expect(made.say(0, frame)).toHaveLength(1);
  });
});
