/**
 * Names in a filter's text that libpcap would look up on the network: those of hosts, networks,
 * gateways and Ethernet stations. Names of ports and protocols come from files of this machine and
 * are no matter here.
 *
 *   host 10.0.0.1 and port http or lab.example
 *        address           service  ^ a service here too: a name has the qualifiers before it
 *
 * Where this and libpcap's scanner could differ, a word counts as a name.
 *
 * Source: libpcap: scanner.l (words), grammar.y (`head`, `id`, `paren`: which qualifiers a name has).
 */
import { isIPv6 } from "node:net";

/** The meaning of a name, by the qualifier before it. NOTHING: libpcap refuses a name there. */
const Kind = { NOTHING: 0, ADDRESS: 1, LOCAL: 2 } as const;
type Kind = (typeof Kind)[keyof typeof Kind];

const words = (text: string): readonly string[] => text.trim().split(/\s+/);

const KINDS: ReadonlyMap<string, Kind> = new Map([
  ...words(`host net gateway src dst ra ta addr1 addr2 addr3 addr4 address1 address2 address3
    address4 mask`).map((word) => [word, Kind.ADDRESS] as const),
  ...words("port portrange proto protochain").map((word) => [word, Kind.LOCAL] as const),
  ...words(`type subtype dir direction llc on ifname rset ruleset rnr rulenum srnr subrulenum reason
    action`).map((word) => [word, Kind.NOTHING] as const),
]);

/** Words of the language that leave the qualifier as it is. */
const OTHERS: ReadonlySet<string> = new Set(
  words(`link ether ppp slip fddi tr wlan arp rarp ip sctp tcp udp icmp igmp igrp pim vrrp carp radio
    ip6 icmp6 ah esp atalk aarp decnet lat sca moprc mopdl iso esis es-is isis is-is l1 l2 iih lsp snp
    csnp psnp clnp stp ipx netbeui less greater byte broadcast multicast and or not len length inbound
    outbound ifindex vlan mpls pppoed pppoes geneve vxlan lane metac bcc oam oamf4 oamf4ec oamf4sc sc
    ilmic vpi vci connectmsg metaconnect fisu lssu lsu msu hfisu hlssu hmsu sio opc dpc sls hsio hopc
    hdpc hsls icmptype icmpcode icmp6type icmp6code tcpflags`),
);
const NUMBERS: ReadonlySet<string> = new Set([
  ...words(`echoreply unreach sourcequench redirect echo routeradvert routersolicit timxceed paramprob
    tstamp tstampreply ireq ireqreply maskreq maskreply`).map((word) => `icmp-${word}`),
  ...words(`destinationunreach packettoobig timeexceeded parameterproblem echo echoreply
    multicastlistenerquery multicastlistenerreportv1 multicastlistenerdone routersolicit routeradvert
    neighborsolicit neighboradvert redirect routerrenum nodeinformationquery nodeinformationresponse
    ineighbordiscoverysolicit ineighbordiscoveryadvert multicastlistenerreportv2
    homeagentdiscoveryrequest homeagentdiscoveryreply mobileprefixsolicit mobileprefixadvert
    certpathsolicit certpathadvert multicastrouteradvert multicastroutersolicit
    multicastrouterterm`).map((word) => `icmp6-${word}`),
  ...words("fin syn rst push ack urg ece cwr").map((word) => `tcp-${word}`),
]);

const SPACE = /[ \r\n\t]+/y;
const ESCAPED = /\\[^ !()\n\t]+/y;
const WITH_COLONS = /[0-9A-Fa-f.:]*:[0-9A-Fa-f.:]*/y;
const STATION = /[0-9A-Fa-f]{1,2}(:[0-9A-Fa-f]{1,2}){5}(?![0-9A-Fa-f:])/y;
const WORD = /[A-Za-z0-9]([-_.A-Za-z0-9]*[.A-Za-z0-9])?/y;
/** A word that is a number, an IPv4 address or a part of one, or a station's address. */
const NUMBER = "(\\d+|0[xX][0-9A-Fa-f]+)";
const HEX = "[0-9A-Fa-f]";
const ADDRESS = new RegExp(
  `^(${NUMBER}(\\.${NUMBER}){0,3}|${HEX}{1,2}([-.]${HEX}{1,2}){5}|${HEX}{4}(\\.?${HEX}{4}){2})$`,
);

/** The first name in `text` that would be looked up on the network; undefined: there is none. */
export function networkNameIn(text: string): string | undefined {
  let kind: Kind = Kind.NOTHING;
  const outer: Kind[] = [];
  let at = 0;
  const match = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    const [found] = pattern.exec(text) ?? [];
    if (found !== undefined) at += found.length;
    return found;
  };
  while (at < text.length) {
    if (match(SPACE) !== undefined) continue;
    const escaped = match(ESCAPED);
    if (escaped !== undefined) {
      if (kind === Kind.ADDRESS) return escaped.slice(1);
      continue;
    }
    if (match(STATION) !== undefined) continue;
    const from = at;
    const colons = match(WITH_COLONS);
    if (colons !== undefined) {
      if (isIPv6(colons)) continue;
      at = from;
    }
    const word = match(WORD);
    if (word === undefined) {
      // The text in parentheses begins with the qualifier outside, and leaves it as it was.
      if (text[at] === "(") outer.push(kind);
      else if (text[at] === ")") kind = outer.pop() ?? kind;
      at++;
    } else if (KINDS.has(word)) {
      kind = KINDS.get(word)!;
    } else if (!OTHERS.has(word) && !NUMBERS.has(word) && !ADDRESS.test(word)) {
      if (kind === Kind.ADDRESS) return word;
    }
  }
  return undefined;
}
