/**
 * The name server of a segment, over UDP. `dns-packet` reads and writes the messages.
 *
 *   NIC.DOMAIN            A, AAAA, ANY      addresses; NOERROR without an answer if it has none
 *   another of DOMAIN                       NXDOMAIN
 *   address.in-addr.arpa, .ip6.arpa  PTR    the name, or NXDOMAIN
 *   any other name                          REFUSED, so that a resolver asks its next server
 *
 * `dns-packet` throws for bytes that are no message. What it reads is bounded first: one question, at
 * most one additional record, 512 bytes. A query with a response's flag is never answered, so two
 * servers can't talk to each other for ever.
 *
 * Source: RFC 1035, 4; RFC 2308, 2 (negative answers carry the SOA); RFC 6891, 6.1 (EDNS).
 */
import * as dns from "dns-packet";
import { macHigh } from "../../shared/net/ethernet.ts";
import {
  IPV6_BYTES,
  ipv4Text,
  ipv6Text,
  type Network4,
  type Network6,
  parseIpv4,
  samePrefix,
} from "./addresses.ts";
import type { NameAddresses, Names } from "./names.ts";
import { Unanswered } from "./request.ts";

export const DNS_PORT = 53;
const HEADER_BYTES = 12;
const FLAGS = 2;
const IS_RESPONSE = 0x8000;
const OPCODE = 0x7800;
/** Longest message without EDNS (RFC 1035, 4.2.1), in both directions. */
const MESSAGE_BYTES = 512;
/** Longest answer with EDNS: no path with the IPv6 minimum MTU fragments it. */
const EDNS_BYTES = 1232;
/** Names change when NICs come and go. */
const TTL_SECONDS = 30;
const NEGATIVE_TTL_SECONDS = 5;
const SECONDS_OF_DAY = 86_400;
/** Other names are refused unread. `dns-packet` would write some of them in another form. */
const NAME = /^[A-Za-z0-9._-]{1,253}$/;

const Code = { NOERROR: 0, FORMERR: 1, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 } as const;

interface Found {
  readonly code: number;
  readonly answers: dns.Answer[];
  /** True if a negative answer is that of the domain, whose SOA it carries. */
  readonly isOwn: boolean;
}
const REFUSED: Found = { code: Code.REFUSED, answers: [], isOwn: false };

export interface DnsOptions {
  readonly domain: string;
  readonly ipv4: Network4 | undefined;
  readonly ipv6: Network6 | undefined;
  readonly names: Names;
}

export class DnsServer {
  readonly #o: DnsOptions;

  constructor(options: DnsOptions) {
    this.#o = options;
  }

  /** Returns the answer to a query, or the reason why it gets none. Never throws. */
  respond(query: Uint8Array): Uint8Array | Unanswered {
    if (query.length < HEADER_BYTES || query.length > MESSAGE_BYTES) return Unanswered.MALFORMED;
    const flags = macHigh(query, FLAGS);
    if ((flags & IS_RESPONSE) !== 0) return Unanswered.UNSUPPORTED;
    if ((flags & OPCODE) !== 0) return bare(query, Code.NOTIMP);
    const [questions, answers, authorities, additionals] = [4, 6, 8, 10].map((at) =>
      macHigh(query, at),
    );
    if (questions !== 1 || answers !== 0 || authorities !== 0 || additionals! > 1) {
      return bare(query, Code.FORMERR);
    }
    try {
      const message = dns.decode(Buffer.from(query));
      const [question] = message.questions ?? [];
      if (question === undefined) return bare(query, Code.FORMERR);
      if (!NAME.test(question.name) || !["IN", "ANY"].includes(question.class ?? "IN")) {
        return bare(query, Code.REFUSED);
      }
      const isExtended = message.additionals?.[0]?.type === "OPT";
      return this.#written(query, question, isExtended, this.#find(question));
    } catch {
      return bare(query, Code.FORMERR);
    }
  }

  #written(
    query: Uint8Array,
    question: dns.Question,
    isExtended: boolean,
    { code, answers, isOwn }: Found,
  ): Uint8Array {
    const asked = macHigh(query, FLAGS);
    const isNegative = isOwn && answers.length === 0;
    const packet: dns.Packet = {
      type: "response",
      id: macHigh(query, 0),
      flags:
        (code === Code.REFUSED ? 0 : dns.AUTHORITATIVE_ANSWER) |
        (asked & dns.RECURSION_DESIRED) |
        code,
      questions: [question],
      answers,
      authorities: isNegative ? [this.#authority()] : [],
      additionals: isExtended ? [EDNS] : [],
    };
    let bytes = dns.encode(packet);
    while (answers.length > 0 && bytes.length > (isExtended ? EDNS_BYTES : MESSAGE_BYTES)) {
      answers.pop();
      bytes = dns.encode(packet);
    }
    return bytes;
  }

  #find({ name, type: kind }: dns.Question): Found {
    const { domain, names } = this.#o;
    // The types of the package do not have every type that it reads.
    const type: string = kind;
    const plain = name.toLowerCase().replace(/\.$/, "");
    if (plain.endsWith(".arpa")) return this.#reverse(name, plain, type);
    if (plain === domain) {
      const isAuthority = type === "SOA" || type === "ANY";
      return found(isAuthority ? [this.#authority()] : [], true);
    }
    if (!plain.endsWith(`.${domain}`)) return REFUSED;
    const addresses = names.addressesOf(plain.slice(0, -domain.length - 1));
    if (addresses === undefined) return { code: Code.NXDOMAIN, answers: [], isOwn: true };
    return found(recordsOf(name, type, addresses), true);
  }

  /** Source: RFC 1035, 3.5; RFC 3596, 2.5. */
  #reverse(name: string, plain: string, type: string): Found {
    const { domain, ipv4, ipv6, names } = this.#o;
    let owner: string | undefined;
    const old = /^((?:\d{1,3}\.){4})in-addr\.arpa$/.exec(plain)?.[1];
    const nibbles = /^((?:[0-9a-f]\.){32})ip6\.arpa$/.exec(plain)?.[1];
    if (old !== undefined && ipv4 !== undefined) {
      const parts = old.slice(0, -1).split(".").reverse();
      if (parts.some((part) => Number(part) > 255)) return REFUSED;
      const address = parseIpv4(parts.map(Number).join("."));
      if ((address & ipv4.mask) >>> 0 !== ipv4.first) return REFUSED;
      owner = names.nameOfIpv4(address);
    } else if (nibbles !== undefined && ipv6 !== undefined) {
      const digits = nibbles.replaceAll(".", "").split("").reverse().join("");
      const address = new Uint8Array(Buffer.from(digits, "hex"));
      if (address.length !== IPV6_BYTES || !samePrefix(address, ipv6.address, ipv6.bits)) {
        return REFUSED;
      }
      owner = names.nameOfIpv6(address);
    } else {
      return REFUSED;
    }
    if (owner === undefined) return { code: Code.NXDOMAIN, answers: [], isOwn: false };
    if (type !== "PTR" && type !== "ANY") return found([], false);
    return found([{ name, type: "PTR", ttl: TTL_SECONDS, data: `${owner}.${domain}` }], false);
  }

  #authority(): dns.Answer {
    const { domain } = this.#o;
    return {
      name: domain,
      type: "SOA",
      ttl: NEGATIVE_TTL_SECONDS,
      data: {
        mname: `services.${domain}`,
        rname: `nobody.${domain}`,
        serial: 1,
        refresh: SECONDS_OF_DAY,
        retry: SECONDS_OF_DAY,
        expire: SECONDS_OF_DAY,
        minimum: NEGATIVE_TTL_SECONDS,
      },
    };
  }
}

const EDNS: dns.Answer = {
  name: ".",
  type: "OPT",
  udpPayloadSize: EDNS_BYTES,
  extendedRcode: 0,
  ednsVersion: 0,
  flags: 0,
  flag_do: false,
  options: [],
};

const found = (answers: dns.Answer[], isOwn: boolean): Found => ({
  code: Code.NOERROR,
  answers,
  isOwn,
});

function recordsOf(name: string, type: string, { ipv4, ipv6 }: NameAddresses): dns.Answer[] {
  const isAny = type === "ANY";
  const ttl = TTL_SECONDS;
  const old = ipv4.map((ip): dns.Answer => ({ name, type: "A", ttl, data: ipv4Text(ip) }));
  const all = ipv6.map((ip): dns.Answer => ({ name, type: "AAAA", ttl, data: ipv6Text(ip) }));
  return [...(isAny || type === "A" ? old : []), ...(isAny || type === "AAAA" ? all : [])];
}

/** Returns an answer without the question, for a query that is not understood. */
function bare(query: Uint8Array, code: number): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const flags = macHigh(query, FLAGS);
  const echoed = flags & (OPCODE | dns.RECURSION_DESIRED);
  bytes.set(query.subarray(0, 2));
  bytes[FLAGS] = (IS_RESPONSE | echoed) >>> 8;
  bytes[FLAGS + 1] = code;
  return bytes;
}
