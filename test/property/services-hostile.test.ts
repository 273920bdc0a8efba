/**
 * Every NIC of a segment may send its services any bytes. The host never throws, never holds more
 * than its bounds, and accounts for each frame that it accepted.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { holds } from "../support/counts.ts";
import {
  datagram,
  dhcpMessage,
  icmp6,
  HOST_MAC as MAC,
  ping,
  SERVER_IP6,
  SERVER_MAC,
  ServiceStage,
} from "../support/service-stage.ts";

const RUNS = 20_000;
const HOST = { mac: MAC, ip: [10, 0, 0, 9] };
const BROADCAST = { mac: [255, 255, 255, 255, 255, 255], ip: [255, 255, 255, 255] };
const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "hex"));

const ETHER = Buffer.from([...SERVER_MAC, ...MAC]).toString("hex");
const query = "000901000001000000000001016103" + "6c6162000001000100002904d0000000000000";

/** One legal frame of each kind that the host answers. */
const LEGAL = [
  datagram({ ...HOST, ip: [0, 0, 0, 0] }, { ...BROADCAST, port: 67 }, dhcpMessage(MAC, 1)),
  datagram(
    { ...HOST, ip: [0, 0, 0, 0] },
    { ...BROADCAST, port: 67 },
    dhcpMessage(MAC, 3, { 50: [10, 0, 0, 200], 54: [10, 0, 0, 1], 61: [1, 2, 3], 55: [1, 3, 12] }),
  ),
  datagram(HOST, { ip: [10, 0, 0, 1], port: 53 }, hex(query), 4000),
  hex(`${ETHER}0806${"0001080006040001"}${ETHER.slice(12)}0a0000090000000000000a000001`),
  ping(),
  icmp6({ type: 133, body: [0, 0, 0, 0], to: [0x33, 0x33, 0, 0, 0, 2] }),
  icmp6({ type: 135, body: [0, 0, 0, 0, ...SERVER_IP6] }),
  icmp6({ type: 128, body: [0, 1, 0, 2, 1, 2, 3, 4] }),
];

interface Edit {
  readonly at: number;
  readonly value: number;
}

/** A legal frame with a few changed bytes and another length, in spans of any lengths. */
const frames = fc.oneof(
  fc
    .tuple(
      fc.constantFrom(...LEGAL),
      fc.array(fc.record<Edit>({ at: fc.nat(399), value: fc.nat(255) }), { maxLength: 4 }),
      fc.option(fc.nat(400)),
    )
    .map(([legal, edits, length]) => {
      const bytes = new Uint8Array(length ?? legal.length);
      bytes.set(legal.subarray(0, bytes.length));
      for (const { at, value } of edits) if (at < bytes.length) bytes[at] = value;
      return bytes;
    }),
  // Random bytes behind a header that leads them to the host.
  fc
    .tuple(
      fc.constantFrom("0800", "0806", "86dd", "8100", "0000"),
      fc.uint8Array({ maxLength: 200 }),
    )
    .map(([type, bytes]) => Uint8Array.from([...hex(ETHER + type), ...bytes])),
  // Any message over correct checksums.
  fc
    .tuple(fc.constantFrom(67, 53, 9), fc.uint8Array({ maxLength: 600 }))
    .map(([port, payload]) => datagram(HOST, { ip: [10, 0, 0, 1], port }, payload, 4000)),
  fc
    .tuple(fc.constantFrom(128, 133, 134, 135, 136), fc.uint8Array({ maxLength: 80 }))
    .map(([type, body]) => icmp6({ type, body: [...body] })),
  // Options of discovery, of DHCP, and DNS behind a header.
  fc
    .uint8Array({ maxLength: 80 })
    .map((options) => icmp6({ type: 135, body: [0, 0, 0, 0, ...SERVER_IP6, ...options] })),
  fc.uint8Array({ maxLength: 100 }).map((options) => {
    const message = Buffer.concat([dhcpMessage(MAC, 1).subarray(0, 240), options]);
    return datagram(HOST, { ip: [10, 0, 0, 1], port: 67 }, message);
  }),
  fc.uint8Array({ maxLength: 100 }).map((rest) => {
    const message = Buffer.concat([hex("000901000001000000000001"), rest]);
    return datagram(HOST, { ip: [10, 0, 0, 1], port: 53 }, message, 4000);
  }),
);

const total = (counts: Readonly<Record<string, number>>): number =>
  Object.values(counts).reduce((sum, n) => sum + n, 0);

function stage() {
  const made = new ServiceStage({
    address: "10.0.0.1/24",
    address6: "fd00::1/64",
    icmp: true,
    dhcp: { reserve: { web: "10.0.0.5" } },
    dns: true,
    ra: true,
  });
  made.add("a", MAC);
  return made;
}

describe("any frames", () => {
  it("are answered, ignored or counted, and never more than their number", () => {
    holds(
      fc.property(fc.array(frames, { minLength: 1, maxLength: 20 }), (list) => {
        const made = stage();
        let answered = 0;
        for (const frame of list) {
          const answers = made.say(0, frame);
          expect(answers.length).toBeLessThanOrEqual(1);
          answered += answers.length;
          // An answer is at most a DHCP or DNS message, or as long as its request.
          for (const { length } of answers) {
            expect(length).toBeLessThanOrEqual(Math.max(frame.length, 60, 800));
          }
          made.clock.advance(1);
        }
        const { answers, unanswered, queued, dhcp } = made.status;
        expect(queued).toBe(0);
        expect(total(answers)).toBe(answered);
        expect(total(answers) + total(unanswered)).toBeLessThanOrEqual(list.length);
        expect(dhcp!.leases + dhcp!.offers + dhcp!.declined).toBeLessThanOrEqual(127);
      }),
      { numRuns: RUNS },
    );
  });

  it("have legal ones among them, which are answered", () => {
    const made = stage();
    expect(LEGAL.map((frame) => made.say(0, frame).length)).toEqual(LEGAL.map(() => 1));
    expect(made.status.unanswered).toEqual({});
  });

  it("in a flood never have more than their rate", () => {
    const made = stage();
    for (let i = 0; i < 20_000; i++) made.send(0, LEGAL[i % LEGAL.length]!);
    expect(made.status.queued).toBeLessThan(1024);
    made.settle(0);
    const { answers, unanswered, queued } = made.status;
    expect(queued).toBe(0);
    // A quarter of a tenth of the requests that each service accepts in a second.
    expect(answers).toEqual({ arp: 100, icmp: 400, neighbour: 100, ra: 25, dhcp: 20, dns: 100 });
    expect(total(answers) + total(unanswered)).toBe(20_000);
  });
});
