/** Addresses in pkt-gen's format IP[:PORT[-IP[:PORT]]]: one address, or a range. */

export interface EndpointRange {
  /** IPv4 addresses as numbers, first and last. */
  readonly ip0: number;
  readonly ip1: number;
  readonly port0: number;
  readonly port1: number;
}

const DEFAULT_PORT = 1234;

/** Parses one address or a range. Throws a TypeError with a sentence for the user. */
export function parseEndpoints(text: string): EndpointRange {
  const ends = text.split("-");
  if (ends.length > 2) throw new TypeError(`"${text}" has more than one hyphen`);
  const first = parseEndpoint(ends[0] ?? "", DEFAULT_PORT);
  const last = ends[1] === undefined ? first : parseEndpoint(ends[1], first.port);
  if (last.ip < first.ip || last.port < first.port) {
    throw new TypeError(`"${text}" ends before it begins`);
  }
  return { ip0: first.ip, ip1: last.ip, port0: first.port, port1: last.port };
}

/** Returns the text of a range, in the format that parseEndpoints accepts. */
export function endpointsText({ ip0, ip1, port0, port1 }: EndpointRange): string {
  const first = `${ipText(ip0)}:${port0}`;
  return ip0 === ip1 && port0 === port1 ? first : `${first}-${ipText(ip1)}:${port1}`;
}

const ipText = (ip: number): string =>
  [24, 16, 8, 0].map((shift) => (ip >>> shift) & 0xff).join(".");

function parseEndpoint(text: string, defaultPort: number): { ip: number; port: number } {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?::(\d{1,5}))?$/.exec(text);
  const bytes = match?.slice(1, 5).map(Number) ?? [];
  const port = match?.[5] === undefined ? defaultPort : Number(match[5]);
  if (match === null || bytes.some((byte) => byte > 255) || port > 65_535) {
    throw new TypeError(`"${text}" is no IPv4 address with a port, as 10.0.0.1:1234`);
  }
  return { ip: bytes.reduce((ip, byte) => ip * 256 + byte, 0), port };
}

/** Steps through a range, ports first. */
export class EndpointWalk {
  ip: number;
  port: number;
  readonly #range: EndpointRange;

  constructor(range: EndpointRange) {
    this.#range = range;
    this.ip = range.ip0;
    this.port = range.port0;
  }

  /** Steps to the next address and port. Returns true when the range starts again. */
  step(): boolean {
    const { ip0, ip1, port0, port1 } = this.#range;
    if (this.port < port1) {
      this.port++;
      return false;
    }
    this.port = port0;
    if (this.ip < ip1) {
      this.ip++;
      return false;
    }
    this.ip = ip0;
    return true;
  }

  /** Chooses any address and port at random, for -z and -Z. */
  random(): void {
    this.ip = (Math.random() * 0x1_0000_0000) >>> 0;
    this.port = (Math.random() * 0x1_0000) & 0xffff;
  }

  get isSingle(): boolean {
    return this.#range.ip0 === this.#range.ip1 && this.#range.port0 === this.#range.port1;
  }
}
