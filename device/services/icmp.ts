/**
 * ICMP echo over IPv4 and IPv6: a reply has the bytes of its request, so it is never longer.
 *
 *   0      1      2          4            6          8
 *   | type | code | checksum | identifier | sequence | data
 *
 * Source: RFC 792 (echo); RFC 4443, 4.1 and 4.2.
 */
import { put16 } from "../../shared/net/big-endian.ts";
import { ETHER_HEADER_BYTES } from "../../shared/net/ethernet.ts";
import { readIpv4 } from "./addresses.ts";
import { icmp6Frame, icmpFrame, type Route6 } from "./packet.ts";
import { type Answer, type Request, Unanswered } from "./request.ts";

const ECHO = 8;
const ECHO_REPLY = 0;
const ECHO6 = 128;
const ECHO6_REPLY = 129;
const ECHO_HEADER_BYTES = 8;
const CHECKSUM = 2;
const IPV4_SOURCE = ETHER_HEADER_BYTES + 12;

/** Answers a ping of `address`. Other messages are no requests, and get no answer. */
export function answerEcho(request: Request, mac: Uint8Array, address: number): Answer {
  const message = messageOf(request);
  if (message[0] !== ECHO) return Unanswered.UNSUPPORTED;
  if (message.length < ECHO_HEADER_BYTES || message[1] !== 0) return Unanswered.MALFORMED;
  message[0] = ECHO_REPLY;
  const destination = readIpv4(request.bytes, IPV4_SOURCE);
  return icmpFrame({ to: request.sender, from: mac, source: address, destination }, message);
}

/** As `answerEcho`, over IPv6. `back` leads to the sender. */
export function answerEcho6(request: Request, back: Route6): Answer {
  const message = messageOf(request);
  if (message[0] !== ECHO6) return Unanswered.UNSUPPORTED;
  if (message.length < ECHO_HEADER_BYTES || message[1] !== 0) return Unanswered.MALFORMED;
  message[0] = ECHO6_REPLY;
  return icmp6Frame(back, message);
}

/** Returns a copy of the message without its checksum. */
function messageOf({ bytes, headers }: Request): Uint8Array {
  const message = bytes.slice(headers.l4Offset, headers.l3End);
  put16(message, CHECKSUM, 0);
  return message;
}
