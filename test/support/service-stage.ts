/** A service host on a real switch, with NICs that the test plays, on a clock that it advances. */
import { ServiceHost } from "../../device/services/host.ts";
import { type ServiceOptions, serviceOptions } from "../../device/services/options.ts";
import type { SwitchPort } from "../../device/switch/port.ts";
import { Switch, type SwitchOptions } from "../../device/switch/switch.ts";
import { macKey, SOURCE } from "../../shared/net/ethernet.ts";
import type { Frame } from "../../shared/net/frame.ts";
import { buildPacket, frameOf, plainSum, pseudoHeader } from "./packets.ts";
import { NO_OFFLOADS, TestPort } from "./switch-port.ts";
import { PairClock } from "./test-clock.ts";

/** The host of the segment lan0, and its address in tests of IPv6. */
export const SERVER_MAC = [0x8a, 0x32, 0xb0, 0xfa, 0x44, 0x33];
export const SERVER_IP6 = [0xfd, ...new Array<number>(14).fill(0), 1];
/** A NIC and its link-local address. */
export const HOST_MAC = [2, 0, 0, 0, 0, 9];
export const HOST_IP6 = [0xfe, 0x80, ...new Array<number>(9).fill(0), 0xff, 0xfe, 0, 0, 9];

interface StageNic {
  readonly name: string;
  readonly mac: Uint8Array;
  readonly port: TestPort;
  readonly plug: SwitchPort;
}

export class ServiceStage {
  readonly clock = new PairClock();
  readonly segment: Switch;
  readonly host: ServiceHost;
  readonly nics: StageNic[] = [];

  constructor(
    services: ServiceOptions,
    options: Pick<SwitchOptions, "whenFull" | "rules" | "storm"> = {},
  ) {
    this.segment = new Switch({ name: "lan0", now: this.clock.now, ...options });
    const names = () => this.nics.map(({ name, mac }) => ({ name, mac: macKey(mac, 0) }));
    this.host = new ServiceHost({
      segment: this.segment,
      services: serviceOptions.parse(services),
      clock: this.clock,
      neighbourhood: {
        nics: names,
        nameOf: (mac) => names().find((nic) => nic.mac === mac)?.name,
        portOf: (mac) => this.segment.portOf(mac, "services"),
      },
    });
  }

  /** Attaches a NIC, or without `mac` an uplink. Returns its number. */
  add(name: string, mac?: readonly number[]): number {
    const port = new TestPort(name, NO_OFFLOADS, 9234);
    const address = Uint8Array.from(mac ?? [0, 0, 0, 0, 0, 0]);
    const plug = this.segment.attach(port, mac === undefined ? undefined : address);
    this.nics.push({ name, mac: address, port, plug });
    return this.nics.length - 1;
  }

  /** Sends a frame from a NIC, and returns what the host sends it until nothing happens any more. */
  say(nic: number, bytes: Uint8Array, facts: Partial<Frame> = {}): Uint8Array[] {
    this.send(nic, bytes, facts);
    return this.settle(nic);
  }

  /** Sends a frame without a turn of the event loop. */
  send(nic: number, bytes: Uint8Array, facts: Partial<Frame> = {}): void {
    const { plug } = this.nics[nic]!;
    plug.input(Object.assign(frameOf(bytes), facts));
    plug.flush();
  }

  /** Runs turns until nothing waits. Returns what the NIC got from the host. */
  settle(nic: number): Uint8Array[] {
    while (this.clock.turn());
    const server = macKey(this.host.mac, 0);
    const got = this.nics[nic]!.port.got.splice(0).map(({ bytes }) => bytes);
    return got.filter((bytes) => macKey(bytes, SOURCE) === server);
  }

  get status() {
    return this.host.snapshot();
  }
}

/** A datagram to the server from a NIC with the given address, with a complete checksum. */
export function datagram(
  from: { readonly mac: readonly number[]; readonly ip: readonly number[] },
  to: { readonly mac?: readonly number[]; readonly ip: readonly number[]; readonly port: number },
  payload: Uint8Array,
  sourcePort = 68,
): Uint8Array {
  return buildPacket({
    source: from.mac,
    destination: to.mac ?? SERVER_MAC,
    addresses: [...from.ip, ...to.ip],
    protocol: 17,
    ...{ sourcePort, destinationPort: to.port, payload },
  }).bytes;
}

/** A message of a DHCP client: RFC 2131, 2. Options by code. */
export function dhcpMessage(
  mac: readonly number[],
  type: number,
  options: Readonly<Record<number, readonly number[]>> = {},
  fields: { readonly ciaddr?: readonly number[]; readonly flags?: number } = {},
): Uint8Array {
  const message = Buffer.alloc(240);
  message.set([1, 1, 6, 0, 1, 2, 3, 4]);
  message.writeUInt16BE(fields.flags ?? 0, 10);
  message.set(fields.ciaddr ?? [], 12);
  message.set(mac, 28);
  message.set([0x63, 0x82, 0x53, 0x63], 236);
  const all = Object.entries({ 53: [type], ...options });
  const encoded = all.flatMap(([code, value]) => [Number(code), value.length, ...value]);
  return Buffer.concat([message, Uint8Array.from([...encoded, 255])]);
}

/** Fields of an ICMPv6 packet, behind its checksum `body`. */
export interface Packet6 {
  readonly mac?: readonly number[];
  readonly to?: readonly number[];
  readonly source?: readonly number[];
  readonly destination?: readonly number[];
  readonly hops?: number;
  readonly type: number;
  readonly code?: number;
  readonly body: readonly number[];
}

/** An ICMPv6 packet of HOST_MAC with a complete checksum. */
export function icmp6(packet: Packet6): Uint8Array {
  const { to = SERVER_MAC, source = HOST_IP6, destination = SERVER_IP6, hops = 255 } = packet;
  const { mac = HOST_MAC, type, code = 0, body } = packet;
  const message = [type, code, 0, 0, ...body];
  const head = [0x60, 0, 0, 0, message.length >>> 8, message.length & 255, 58, hops];
  const bytes = Uint8Array.from([to, mac, [0x86, 0xdd], head, source, destination, message].flat());
  const sum = ~plainSum(pseudoHeader(bytes, 14, 54, 58), bytes.subarray(54)) & 0xffff;
  bytes.set([sum >>> 8, sum & 255], 56);
  return bytes;
}

/** A ping of 10.0.0.1 by HOST_MAC. */
export function ping(data = 8): Uint8Array {
  const { bytes } = buildPacket({
    ...{ source: HOST_MAC, destination: SERVER_MAC, addresses: [10, 0, 0, 9, 10, 0, 0, 1] },
    ...{ protocol: 17, payload: new Uint8Array(data) },
  });
  bytes[23] = 1;
  bytes.set([0, 0], 24);
  const header = ~plainSum(bytes.subarray(14, 34)) & 0xffff;
  bytes.set([header >>> 8, header & 255], 24);
  bytes.set([8, 0, 0, 0, 0, 1, 0, 2], 34);
  const sum = ~plainSum(bytes.subarray(34)) & 0xffff;
  bytes.set([sum >>> 8, sum & 255], 36);
  return bytes;
}
