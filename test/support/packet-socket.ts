/**
 * Frames at an interface of the kernel, as a program on that host sends and sees them: AF_PACKET to
 * send, tcpdump to receive. (A socket alone would not see a VLAN tag: the kernel moves it out of the
 * frame, and libpcap puts it back.)
 */
import { readFileSync } from "node:fs";
import * as sys from "../../shared/reactor/sys.ts";
import type { Namespace } from "./netns.ts";
import { type Child, eventually, start } from "./process.ts";

// linux: include/uapi/linux/if_packet.h (struct sockaddr_ll), if_ether.h (ETH_P_ALL)
const AF_PACKET = 17;
const ETH_P_ALL_BE = 0x0300;
const SOCKADDR_LL_BYTES = 20;
/** Larger than the least buffer with a fixed address. */
const BUFFER_BYTES = 65_536;

export class PacketSocket implements Disposable {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);

  constructor(namespace: Namespace, device: string) {
    const link = namespace.link(device);
    if (link === undefined) throw new Error(`there is no interface ${device}`);
    using _inside = namespace.enter();
    this.#fd = sys.socket(AF_PACKET, sys.SOCK_RAW, ETH_P_ALL_BE);
    if (this.#fd < 0) throw new Error(`socket: errno ${sys.errno()}`);
    const address = Buffer.alloc(SOCKADDR_LL_BYTES);
    address.writeUInt16LE(AF_PACKET, 0);
    address.writeUInt16LE(ETH_P_ALL_BE, 2);
    address.writeInt32LE(link.ifindex, 4);
    if (sys.bind(this.#fd, address, address.length) !== 0) {
      throw new Error(`bind ${device}: errno ${sys.errno()}`);
    }
  }

  send(frame: Uint8Array): void {
    this.#buffer.set(frame);
    const sent = sys.send(this.#fd, sys.addressOf(this.#buffer), frame.length, 0);
    if (sent !== frame.length) throw new Error(`send: ${sent}, errno ${sys.errno()}`);
  }

  [Symbol.dispose](): void {
    sys.close(this.#fd);
  }
}

/** The frames that arrive at an interface. */
export class PacketTap implements AsyncDisposable {
  readonly #child: Child;
  readonly #file: string;

  private constructor(child: Child, file: string) {
    this.#child = child;
    this.#file = file;
  }

  /** Starts tcpdump, which writes to `file`, and waits until it captures. */
  static async start(namespace: Namespace, device: string, file: string): Promise<PacketTap> {
    const argv = ["tcpdump", "-Z", "root", "-U", "-Q", "in", "-i", device, "-w", file];
    const child = start(namespace.inside(argv));
    await eventually("tcpdump", () => (/listening on/.test(child.stderr) ? true : undefined));
    return new PacketTap(child, file);
  }

  frames(): Uint8Array[] {
    const bytes = readFileSync(this.#file);
    const frames: Uint8Array[] = [];
    // A file of libpcap: 24 bytes, then 16 bytes before each packet, the third word its length.
    for (let at = 24; at + 16 <= bytes.length; ) {
      const length = bytes.readUInt32LE(at + 8);
      if (at + 16 + length > bytes.length) break;
      frames.push(bytes.subarray(at + 16, at + 16 + length));
      at += 16 + length;
    }
    return frames;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.signal("SIGTERM");
    await this.#child.ended();
  }
}
