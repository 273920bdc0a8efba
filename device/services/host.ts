/**
 * The host that serves a segment: one port of the switch, whose far end is this program.
 *
 *   Switch ──deliver──► for us? ──► limits of service and port ──► queue ──(next turn)──► service
 *                         └─ no: ignored                                                    │
 *   Switch ◄──input──── an answer, or none: counted by its reason ◄─────────────────────────┘
 *
 * A request has at most one answer, which goes back to the Ethernet address that sent it. Only
 * advertisements for all hosts, and the answer to a host without an address, go to a group.
 */
import { type Clock, systemClock, type Timer } from "../../shared/clock.ts";
import {
  DESTINATION,
  ETHER_HEADER_BYTES,
  EtherType,
  formatMac,
  isGroup,
  L2_BYTES,
  MAC_BYTES,
  macFromName,
  macHigh,
  macKey,
  SOURCE,
} from "../../shared/net/ethernet.ts";
import { Frame } from "../../shared/net/frame.ts";
import { L3, L4, UDP_HEADER_BYTES } from "../../shared/net/headers.ts";
import type { ServicesStatus } from "../../shared/status/device-status.ts";
import { DropReason, type Port, type SwitchPort, Verdict } from "../switch/port.ts";
import {
  IPV6_BYTES,
  ipv4Text,
  ipv6Text,
  isMulticast6,
  isUnspecified6,
  LIMITED_BROADCAST,
  linkLocal,
  readIpv4,
  sameBytes,
  samePrefix,
} from "./addresses.ts";
import { answerArp, isArpAbout } from "./arp.ts";
import { DHCP_SERVER_PORT, DhcpServer } from "./dhcp.ts";
import { DNS_PORT, DnsServer } from "./dns.ts";
import { answerEcho, answerEcho6 } from "./icmp.ts";
import { Names } from "./names.ts";
import { answerSolicitation, Icmp6, Neighbours, targetOf } from "./neighbour.ts";
import { SERVICES_PORT, type ServiceOptions, type ServicePlan, servicePlan } from "./options.ts";
import {
  IPV4_DESTINATION,
  IPV4_SOURCE,
  IPV6_DESTINATION,
  IPV6_SOURCE,
  type Route6,
  udpFrame,
  verifyPacket,
} from "./packet.ts";
import { Limit, ServiceRates } from "./rates.ts";
import {
  type Answer,
  type HostPlace,
  type Neighbourhood,
  type Request,
  Unanswered,
} from "./request.ts";
import { type Advertisement, advertisement, type Solicitor, solicitorOf } from "./router.ts";

/** Largest packet: a NIC with jumbo frames may ping with all its MTU. */
const MTU = 9216;
/** Most frames and bytes that wait for their turn: more than one port can fill at its rate. */
const QUEUE_FRAMES = 1024;
const QUEUE_BYTES = 4 << 20;
/** Requests of one turn, after which frames of NICs have their turn. */
const TURN_REQUESTS = 64;
/** Requests a second, by service. One port may use a quarter of each. */
const RATES = { arp: 4000, icmp: 16_000, neighbour: 4000, ra: 1000, dhcp: 800, dns: 4000 };
export type ServiceKind = keyof typeof RATES;
const KINDS = Object.keys(RATES) as ServiceKind[];
/** RFC 4861, 10: MIN_DELAY_BETWEEN_RAS for advertisements to all hosts. */
const BETWEEN_ADVERTISEMENTS_MS = 3000;

export interface ServiceHostOptions {
  readonly segment: { readonly name: string; attach(port: Port, mac?: Uint8Array): SwitchPort };
  readonly services: ServiceOptions;
  readonly neighbourhood: Neighbourhood;
  readonly clock?: Clock;
}

export class ServiceHost implements Port {
  readonly name = SERVICES_PORT;
  readonly kind = SERVICES_PORT;
  readonly isOwn = true;
  readonly offloads = { csum: false, tso4: false, tso6: false };
  readonly maxFrameBytes = MTU + L2_BYTES;
  readonly #plan: ServicePlan;
  readonly #place: HostPlace;
  readonly #own6: readonly Uint8Array[];
  readonly #segment: Neighbourhood;
  readonly #clock: Clock;
  readonly #port: SwitchPort;
  readonly #dhcp: DhcpServer | undefined;
  readonly #dns: DnsServer | undefined;
  readonly #advertisement: Advertisement | undefined;
  readonly #neighbours = new Neighbours();
  readonly #rates: Readonly<Record<ServiceKind, ServiceRates>>;
  readonly #answers: Record<ServiceKind, number>;
  readonly #unanswered = new Map<Unanswered, number>();
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #isScheduled = false;
  /** Frame of the present request, and of the present answer. */
  readonly #in = new Frame();
  readonly #out = new Frame();
  readonly #timer: Timer | undefined;
  /** Time (ms) of the last advertisement to all hosts, and the timer of one that waits. */
  #advertisedAt = Number.NEGATIVE_INFINITY;
  #delayed: Timer | undefined;
  #closed = false;

  /** Attaches the host. `services` must be accepted by `serviceOptions`. */
  constructor({ segment, services, neighbourhood, clock = systemClock }: ServiceHostOptions) {
    const plan = servicePlan(services);
    const mac = macFromName(SERVICES_PORT, segment.name);
    const { ipv4, ipv6, domain } = plan;
    this.#plan = plan;
    this.#place = { mac, linkLocal: linkLocal(mac) };
    this.#own6 = [this.#place.linkLocal, ...(ipv6 === undefined ? [] : [ipv6.address])];
    this.#segment = neighbourhood;
    this.#clock = clock;
    this.#rates = perKind((kind) => new ServiceRates(RATES[kind]));
    this.#answers = perKind(() => 0);
    if (plan.dhcp !== undefined && ipv4 !== undefined) {
      this.#dhcp = new DhcpServer({
        ...{ plan: plan.dhcp, network: ipv4, domain, place: this.#place },
        ...{ segment: neighbourhood, now: clock.now },
      });
    }
    if (domain !== undefined) {
      const { leases } = this.#dhcp ?? {};
      const neighbours = this.#neighbours;
      const names = new Names({ plan, segment: neighbourhood, leases, neighbours });
      this.#dns = new DnsServer({ domain, ipv4, ipv6, names });
    }
    this.#port = segment.attach(this, mac);
    if (plan.ra !== undefined && ipv6 !== undefined) {
      this.#advertisement = { plan: plan.ra, prefix: ipv6, domain };
      const ms = plan.ra.intervalSeconds * 1000;
      this.#timer = clock.setInterval(() => this.#advertiseToAll(), ms);
      this.#timer.unref();
    }
  }

  get mac(): Uint8Array {
    return this.#place.mac;
  }

  deliver(frame: Frame): DropReason | undefined {
    const kind = this.#concerns(frame);
    if (kind === undefined) return undefined;
    // Checked before a frame waits, so that no port can fill the queue for the others.
    const limit = this.#limitOf(kind, frame);
    if (limit !== Limit.NONE) {
      this.#count(limit === Limit.PORT ? Unanswered.PORT_RATE : Unanswered.RATE);
      return undefined;
    }
    if (!this.ready(frame.length)) return DropReason.QUEUE_FULL;
    const bytes = new Uint8Array(frame.length);
    frame.copyTo(bytes, 0, 0, frame.length);
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    this.#schedule();
    return undefined;
  }

  /** True also for more than the queue ever holds, which `deliver` then drops in part. */
  ready(length: number, frames = 1): boolean {
    return (
      frames > QUEUE_FRAMES ||
      frames * length > QUEUE_BYTES ||
      (this.#queue.length + frames <= QUEUE_FRAMES &&
        this.#queuedBytes + frames * length <= QUEUE_BYTES)
    );
  }

  /** Nothing to do: `deliver` has scheduled the work. */
  flush(): void {}

  snapshot(): ServicesStatus {
    const { ipv4, ipv6 } = this.#plan;
    return {
      mac: formatMac(this.#place.mac),
      address: ipv4 === undefined ? "" : `${ipv4Text(ipv4.address)}/${ipv4.bits}`,
      address6: ipv6 === undefined ? "" : `${ipv6Text(ipv6.address)}/${ipv6.bits}`,
      linkLocal: ipv6Text(this.#place.linkLocal),
      queued: this.#queue.length,
      answers: { ...this.#answers },
      unanswered: Object.fromEntries(this.#unanswered),
      ...(this.#dhcp === undefined ? {} : { dhcp: this.#dhcp.snapshot() }),
    };
  }

  /** Detaches the host. Its leases are forgotten. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#clock.clear(this.#timer);
    this.#clock.clear(this.#delayed);
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#port.detach();
  }

  /**
   * Returns the service that a frame is for, as far as its headers tell; undefined if the frame does
   * not concern this host. Every flood of the segment comes here.
   */
  #concerns(frame: Frame): ServiceKind | undefined {
    const headers = frame.headers();
    const { bytes, at, window, etherType, l3, l4, l4Offset, vlanTags } = headers;
    if (vlanTags !== 0 || window < ETHER_HEADER_BYTES) return undefined;
    const toGroup = isGroup(macHigh(bytes, at + DESTINATION));
    if (!toGroup && macKey(bytes, at + DESTINATION) !== macKey(this.#place.mac, 0)) {
      return undefined;
    }
    if (etherType === EtherType.ARP) {
      const own = this.#plan.ipv4;
      const isOurs = own !== undefined && isArpAbout((offset) => frame.byteAt(offset), own.address);
      return isOurs ? "arp" : undefined;
    }
    if (etherType !== EtherType.IPV4 && etherType !== EtherType.IPV6) return undefined;
    const hasLayer4 = l4Offset >= 0 && l4Offset + UDP_HEADER_BYTES <= window;
    if (!hasLayer4) return toGroup ? undefined : "icmp";
    if (l3 === L3.IPV4 && l4 === L4.UDP && portOf(headers) === DHCP_SERVER_PORT) {
      return this.#dhcp === undefined ? undefined : "dhcp";
    }
    const type = l3 === L3.IPV6 && l4 === L4.ICMPV6 ? headers.u8(l4Offset) : -1;
    if (type === Icmp6.ROUTER_SOLICITATION) return "ra";
    if (isDiscoveryType(type)) return "neighbour";
    if (toGroup) return undefined;
    return l4 === L4.UDP ? "dns" : "icmp";
  }

  #limitOf(kind: ServiceKind, frame: Frame): Limit {
    const { bytes, at } = frame.headers();
    const port = this.#segment.portOf(macKey(bytes, at + SOURCE))?.name ?? "";
    return this.#rates[kind].take(port, this.#clock.now());
  }

  #schedule(): void {
    if (this.#isScheduled || this.#closed) return;
    this.#isScheduled = true;
    this.#clock.setImmediate(() => this.#run());
  }

  #run(): void {
    this.#isScheduled = false;
    if (this.#closed) return;
    const wasFull = !this.ready(this.maxFrameBytes);
    for (const bytes of this.#queue.splice(0, TURN_REQUESTS)) {
      this.#queuedBytes -= bytes.length;
      this.#serve(bytes);
    }
    this.#port.flush();
    if (wasFull) this.#port.roomAgain();
    if (this.#queue.length > 0) this.#schedule();
  }

  #serve(bytes: Uint8Array): void {
    const frame = this.#in;
    frame.reset();
    frame.push(bytes, 0, bytes.length);
    const sender = bytes.subarray(SOURCE, SOURCE + MAC_BYTES);
    const request: Request = { frame, bytes, headers: frame.headers(), sender };
    const kind = this.#kindOf(request);
    if (typeof kind !== "object") {
      if (kind !== undefined) this.#count(kind);
      return;
    }
    const answer = kind.answer();
    if (typeof answer === "string") this.#count(answer);
    else if (answer !== undefined) this.#send(kind.service, answer);
  }

  #count(reason: Unanswered): void {
    this.#unanswered.set(reason, (this.#unanswered.get(reason) ?? 0) + 1);
  }

  #send(service: ServiceKind, bytes: Uint8Array): void {
    const frame = this.#out;
    frame.reset();
    frame.push(bytes, 0, bytes.length);
    // A receiver without room would delay the answers of all others. Clients ask again.
    if (this.#port.input(frame) === Verdict.HELD) this.#count(Unanswered.HELD);
    else this.#answers[service]++;
  }

  /** Returns the service of a request; undefined if there is none, or what is wrong with it. */
  #kindOf(request: Request): Service | Unanswered | undefined {
    const { headers } = request;
    const { mac } = this.#place;
    const { ipv4 } = this.#plan;
    if (headers.etherType === EtherType.ARP) {
      if (ipv4 === undefined) return undefined;
      return { service: "arp", answer: () => answerArp(request, mac, ipv4.address) };
    }
    if (headers.problems !== 0) return Unanswered.MALFORMED;
    if (headers.fragment) return Unanswered.FRAGMENT;
    if (headers.l4Offset < 0) return Unanswered.UNSUPPORTED;
    return headers.l3 === L3.IPV4 ? this.#serviceOf4(request) : this.#serviceOf6(request);
  }

  #serviceOf4(request: Request): Service | Unanswered | undefined {
    const { bytes, headers } = request;
    const { ipv4, icmp } = this.#plan;
    if (ipv4 === undefined) return Unanswered.UNSUPPORTED;
    const { mac } = this.#place;
    const { address } = ipv4;
    const destination = readIpv4(bytes, headers.l3Offset + IPV4_DESTINATION);
    const isOwn = destination === address;
    if (headers.l4 === L4.ICMP && isOwn && icmp) {
      return checked(request, "icmp", () => answerEcho(request, mac, address));
    }
    if (headers.l4 !== L4.UDP) return isOwn ? Unanswered.UNSUPPORTED : undefined;
    const port = portOf(headers);
    const dhcp = this.#dhcp;
    if (port === DHCP_SERVER_PORT && dhcp !== undefined) {
      const isForServer = isOwn || destination === LIMITED_BROADCAST || destination === ipv4.last;
      if (!isForServer) return undefined;
      return checked(request, "dhcp", () => dhcp.answer(request));
    }
    if (!isOwn) return undefined;
    const source = readIpv4(bytes, headers.l3Offset + IPV4_SOURCE);
    if (port !== DNS_PORT || this.#dns === undefined) return Unanswered.UNSUPPORTED;
    const back = { to: request.sender, from: mac, source: address, destination: source };
    return checked(request, "dns", () => this.#answerDns(request, back));
  }

  #serviceOf6(request: Request): Service | Unanswered | undefined {
    const { bytes, headers, sender } = request;
    const { l3Offset, l4, l4Offset } = headers;
    const ip = (at: number) => bytes.subarray(l3Offset + at, l3Offset + at + IPV6_BYTES);
    const source = ip(IPV6_SOURCE);
    const destination = ip(IPV6_DESTINATION);
    if (isMulticast6(source)) return Unanswered.MALFORMED;
    const isOwn = this.#own6.some((own) => sameBytes(own, destination));
    const type = l4 === L4.ICMPV6 ? headers.u8(l4Offset) : -1;
    if (isDiscoveryType(type)) {
      return this.#discovery(request, type, source);
    }
    if (!isOwn || isUnspecified6(source)) return isOwn ? Unanswered.MALFORMED : undefined;
    this.#learn(macKey(sender, 0), source);
    const back: Route6 = {
      to: sender,
      from: this.#place.mac,
      source: destination,
      destination: source,
    };
    if (l4 === L4.ICMPV6 && this.#plan.icmp) {
      return checked(request, "icmp", () => answerEcho6(request, back));
    }
    if (l4 !== L4.UDP || portOf(headers) !== DNS_PORT || this.#dns === undefined) {
      return Unanswered.UNSUPPORTED;
    }
    return checked(request, "dns", () => this.#answerDns(request, back));
  }

  #discovery(request: Request, type: number, source: Uint8Array): Service | Unanswered | undefined {
    const mac = macKey(request.sender, 0);
    if (type === Icmp6.ROUTER_ADVERTISEMENT) return undefined;
    if (type === Icmp6.ROUTER_SOLICITATION) {
      if (this.#advertisement === undefined) return undefined;
      return checked(request, "ra", () => this.#answerSolicitor(solicitorOf(request, source)));
    }
    return checked(request, "neighbour", () => {
      const target = targetOf(request);
      if (target === undefined) return Unanswered.MALFORMED;
      // The address of a sender, or the one that a host without an address is about to use.
      const isAboutSender = type === Icmp6.NEIGHBOUR_ADVERTISEMENT || isUnspecified6(source);
      this.#learn(mac, isAboutSender ? target : source);
      if (type === Icmp6.NEIGHBOUR_ADVERTISEMENT) {
        const isOurs = this.#own6.some((own) => sameBytes(own, target));
        return isOurs ? Unanswered.CONFLICT : undefined;
      }
      return answerSolicitation(request, source, this.#place, this.#own6);
    });
  }

  /** Remembers the address of a NIC, for its name. */
  #learn(mac: number, address: Uint8Array): void {
    const { ipv6 } = this.#plan;
    if (this.#dns === undefined || ipv6 === undefined) return;
    if (!samePrefix(address, ipv6.address, ipv6.bits)) return;
    if (sameBytes(address, ipv6.address) || this.#segment.nameOf(mac) === undefined) return;
    this.#neighbours.learn(mac, address);
  }

  #answerDns({ bytes, headers }: Request, back: Parameters<typeof udpFrame>[0]): Answer {
    const { l4Offset } = headers;
    const end = l4Offset + headers.u16(l4Offset + 4);
    const sourcePort = headers.u16(l4Offset);
    // Port 0 accepts no answer. Another name server's port would be a loop of two servers.
    if (sourcePort === 0 || sourcePort === DNS_PORT) return Unanswered.UNSUPPORTED;
    const answer = this.#dns!.respond(bytes.subarray(l4Offset + UDP_HEADER_BYTES, end));
    if (typeof answer === "string") return answer;
    return udpFrame(back, { sourcePort: DNS_PORT, destinationPort: sourcePort }, answer);
  }

  #answerSolicitor(solicitor: Solicitor | undefined): Answer {
    if (solicitor === undefined) return Unanswered.MALFORMED;
    if (solicitor !== "all") return advertisement(this.#advertisement!, this.#place, solicitor);
    const wait = this.#advertisedAt + BETWEEN_ADVERTISEMENTS_MS - this.#clock.now();
    if (wait <= 0) return this.#advertisementToAll();
    // One advertisement to all answers everybody who asks until then.
    this.#delayed ??= this.#clock.setTimeout(() => {
      this.#delayed = undefined;
      this.#advertiseToAll();
    }, wait);
    return undefined;
  }

  #advertisementToAll(): Uint8Array {
    this.#advertisedAt = this.#clock.now();
    return advertisement(this.#advertisement!, this.#place);
  }

  #advertiseToAll(): void {
    this.#send("ra", this.#advertisementToAll());
    this.#port.flush();
  }
}

/** A service and how it answers the present request. */
interface Service {
  readonly service: ServiceKind;
  answer(): Answer;
}

/** Verifies the checksum of a request before its service reads it. */
const checked = (request: Request, service: ServiceKind, answer: () => Answer): Service => ({
  service,
  answer: () => (verifyPacket(request.frame, request.headers) ? answer() : Unanswered.CHECKSUM),
});

const portOf = (headers: Request["headers"]): number => headers.u16(headers.l4Offset + 2);
const isDiscoveryType = (type: number): boolean =>
  type >= Icmp6.ROUTER_SOLICITATION && type <= Icmp6.NEIGHBOUR_ADVERTISEMENT;

const perKind = <T>(of: (kind: ServiceKind) => T): Record<ServiceKind, T> =>
  Object.fromEntries(KINDS.map((kind) => [kind, of(kind)])) as Record<ServiceKind, T>;
