/**
 * The DHCP server of a segment.
 *
 *   DISCOVER ──────────────► OFFER of the reservation, the present lease, or a free address
 *   REQUEST  this server ──► ACK, or NAK if the address is not the client's
 *            no server   ──► the same: a client that starts again, renews or rebinds
 *            another     ──► none; the offer is free again
 *   DECLINE, RELEASE ──────► none
 *   INFORM ────────────────► ACK without a lease
 *
 * The server is the only one of its segment. So it gives a client that renews an address that it
 * does not remember the same address again, if it is free. That is the case after a restart of the
 * device, because leases are not kept in a file.
 *
 * Every answer has the client's address as Ethernet destination, also where its IP destination is
 * the broadcast. So no answer floods the segment.
 *
 * Source: RFC 2131, 4.1 and 4.3.
 */
import { formatMacKey, macKey } from "../../shared/net/ethernet.ts";
import { UDP_HEADER_BYTES } from "../../shared/net/headers.ts";
import type { DhcpStatus } from "../../shared/status/device-status.ts";
import { ipv4Text, isHostOf, LIMITED_BROADCAST, type Network4 } from "./addresses.ts";
import {
  addressesOption,
  DhcpOption,
  type DhcpOptionBytes,
  type DhcpRequest,
  DhcpType,
  parseDhcp,
  secondsOption,
  textOption,
  writeDhcp,
} from "./dhcp-message.ts";
import { type Lease, Leases } from "./leases.ts";
import type { DhcpPlan } from "./options.ts";
import { udpFrame } from "./packet.ts";
import {
  type Answer,
  type HostPlace,
  type Neighbourhood,
  type Request,
  Unanswered,
} from "./request.ts";

export const DHCP_SERVER_PORT = 67;
const DHCP_CLIENT_PORT = 68;
/** Most leases that a status lists. */
const LISTED = 256;
const LABEL = /^[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?$/;

export interface DhcpOptions {
  readonly plan: DhcpPlan;
  readonly network: Network4;
  readonly domain: string | undefined;
  readonly place: HostPlace;
  readonly segment: Neighbourhood;
  /** Returns milliseconds of a monotonic clock. */
  now(): number;
}

export class DhcpServer {
  readonly leases: Leases;
  readonly #o: DhcpOptions;

  constructor(options: DhcpOptions) {
    this.#o = options;
    this.leases = new Leases(options.plan, options.segment, options.now);
  }

  answer({ bytes, headers, sender }: Request): Answer {
    const { l4Offset } = headers;
    const end = l4Offset + headers.u16(l4Offset + 4);
    const request = parseDhcp(bytes.subarray(l4Offset + UDP_HEADER_BYTES, end));
    if (request === undefined) return Unanswered.MALFORMED;
    if (request.relay !== 0) return Unanswered.RELAYED;
    const mac = macKey(request.mac, 0);
    if (mac !== macKey(sender, 0)) return Unanswered.NOT_SENDER;
    switch (request.type) {
      case DhcpType.DISCOVER:
        return this.#discover(request, mac);
      case DhcpType.REQUEST:
        return this.#request(request, mac);
      case DhcpType.DECLINE:
        this.leases.decline(mac, request.requested);
        return undefined;
      case DhcpType.RELEASE:
        this.leases.release(mac, request.clientAddress);
        return undefined;
      case DhcpType.INFORM:
        return this.#inform(request);
      default:
        return Unanswered.UNSUPPORTED;
    }
  }

  snapshot(): DhcpStatus {
    const { plan, segment, now } = this.#o;
    const all = [...this.leases.all()];
    const count = (state: Lease["state"]) => all.filter((lease) => lease.state === state).length;
    return {
      pool: plan.to - plan.from + 1,
      reserved: plan.reserved.size,
      leases: count("bound"),
      offers: count("offered"),
      declined: count("declined"),
      list: all.slice(0, LISTED).map(({ address, mac, state, until }) => ({
        address: ipv4Text(address),
        mac: formatMacKey(mac),
        nic: segment.nameOf(mac) ?? "",
        state,
        seconds: Math.ceil((until - now()) / 1000),
      })),
    };
  }

  #discover(request: DhcpRequest, mac: number): Answer {
    const lease = this.leases.offer(mac, request.requested);
    if (typeof lease === "string") return lease;
    return this.#reply(request, DhcpType.OFFER, lease.address);
  }

  #request(request: DhcpRequest, mac: number): Answer {
    const { network } = this.#o;
    if (request.server !== 0 && request.server !== network.address) {
      const offered = this.leases.of(mac);
      if (offered?.state === "offered") this.leases.release(mac, offered.address);
      return Unanswered.OTHER_SERVER;
    }
    // RFC 2131, table 4: a client that renews has its address in ciaddr, any other in the option.
    const address = request.requested || request.clientAddress;
    if (this.leases.bind(mac, address) === undefined) return this.#refuse(request);
    return this.#reply(request, DhcpType.ACK, address);
  }

  #inform(request: DhcpRequest): Answer {
    if (!isHostOf(this.#o.network, request.clientAddress)) return Unanswered.MALFORMED;
    return this.#send(request, DhcpType.ACK, 0, this.#parameters(request));
  }

  #reply(request: DhcpRequest, type: number, address: number): Uint8Array {
    const seconds = this.#o.plan.leaseSeconds;
    return this.#send(request, type, address, [
      [DhcpOption.LEASE_SECONDS, secondsOption(seconds)],
      // RFC 2131, 4.4.5: when the client asks for more time, here, and from everybody.
      [DhcpOption.RENEWAL_SECONDS, secondsOption(Math.floor(seconds / 2))],
      [DhcpOption.REBINDING_SECONDS, secondsOption(Math.floor((seconds * 7) / 8))],
      ...this.#parameters(request),
    ]);
  }

  #refuse(request: DhcpRequest): Uint8Array {
    return this.#send(request, DhcpType.NAK, 0, []);
  }

  /** Returns the configuration of a host, without an address. */
  #parameters({ mac, wantsHostName }: DhcpRequest): DhcpOptionBytes {
    const { plan, network, domain, segment } = this.#o;
    const name = wantsHostName ? segment.nameOf(macKey(mac, 0)) : undefined;
    const { routers, nameServers } = plan;
    return [
      [DhcpOption.SUBNET_MASK, addressesOption([network.mask])],
      [DhcpOption.BROADCAST, addressesOption([network.last])],
      ...(routers.length === 0 ? [] : ([[DhcpOption.ROUTER, addressesOption(routers)]] as const)),
      ...(nameServers.length === 0
        ? []
        : ([[DhcpOption.NAME_SERVERS, addressesOption(nameServers)]] as const)),
      ...(domain === undefined ? [] : ([[DhcpOption.DOMAIN, textOption(domain)]] as const)),
      ...(name === undefined || !LABEL.test(name)
        ? []
        : ([[DhcpOption.HOST_NAME, textOption(name)]] as const)),
    ];
  }

  #send(request: DhcpRequest, type: number, yours: number, options: DhcpOptionBytes): Uint8Array {
    const { network, place } = this.#o;
    const server = [[DhcpOption.SERVER, addressesOption([network.address])]] as const;
    const payload = writeDhcp(request, type, yours, [...server, ...options]);
    const route = {
      to: request.mac,
      from: place.mac,
      source: network.address,
      destination: destinationOf(request, type, yours),
    };
    const ports = { sourcePort: DHCP_SERVER_PORT, destinationPort: DHCP_CLIENT_PORT };
    return udpFrame(route, ports, payload);
  }
}

/** RFC 2131, 4.1: to the address that the client has; to the new one; or to all. */
function destinationOf(request: DhcpRequest, type: number, yours: number): number {
  if (type === DhcpType.NAK) return LIMITED_BROADCAST;
  if (request.clientAddress !== 0) return request.clientAddress;
  return request.broadcast ? LIMITED_BROADCAST : yours;
}
