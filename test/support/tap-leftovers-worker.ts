/**
 * What an earlier program may leave on a persistent TAP. Run in the TAP's namespace:
 *
 *   node tap-leftovers-worker.ts NAME tx-filter|classic-bpf|ebpf|send-buffer|link-type
 *
 * Leaves it and ends with code 0; or, with "look" behind, opens the TAP as ringwire does and prints
 * one line of JSON: the send buffer and the link type that it has then.
 */
import process from "node:process";
import koffi from "koffi";
import * as ifr from "../../shared/tap/ifreq.ts";
import { openControlSocket, openTap } from "../../shared/tap/open.ts";
import * as sys from "../../shared/tap/sys.ts";

const TUNGETSNDBUF = 0x8004_54d3;
const TUNSETSNDBUF = 0x4004_54d4;
const TUNATTACHFILTER = 0x4010_54d5;
const ARPHRD_NONE = 0xfffe;
const BPF_PROG_LOAD = 5;
const BPF_SYSCALL = process.arch === "arm64" ? 280 : 321;

const [name = "", what = "", look] = process.argv.slice(2);
const fd = sys.open("/dev/net/tun", sys.O_RDWR);
const request = new ifr.Ifreq();
request.about(name);
request.flags = ifr.IFF_TAP | ifr.IFF_NO_PI;
must(sys.ioctl(fd, ifr.TUNSETIFF, request.bytes));
must(leave());
sys.close(fd);
if (look !== undefined) {
  const options = { name, mac: undefined, mtu: undefined, offloads: true, bringUp: false };
  const tap = openTap(options, openControlSocket(), () => {});
  const sendBuffer = new Int32Array(1);
  must(sys.ioctl(tap.fd, TUNGETSNDBUF, new Uint8Array(sendBuffer.buffer)));
  must(sys.ioctl(tap.fd, ifr.SIOCGIFHWADDR, request.about(name)));
  console.log(JSON.stringify({ sendBuffer: sendBuffer[0], linkType: request.linkType }));
}

function leave(): number {
  switch (what) {
    case "tx-filter": {
      // One address that nobody sends to.
      const filter = Uint8Array.of(0, 0, 1, 0, 2, 0, 0, 0, 0, 0x99);
      return sys.ioctl(fd, ifr.TUNSETTXFILTER, filter);
    }
    case "classic-bpf": {
      // BPF_RET | BPF_K with 0: no byte of any frame.
      const program = sys.addressOf(Uint8Array.of(6, 0, 0, 0, 0, 0, 0, 0));
      const fprog = new DataView(new ArrayBuffer(16));
      fprog.setUint16(0, 1, true);
      fprog.setBigUint64(8, BigInt(program), true);
      return sys.ioctl(fd, TUNATTACHFILTER, new Uint8Array(fprog.buffer));
    }
    case "ebpf":
      return sys.ioctl(fd, ifr.TUNSETFILTEREBPF, new Uint8Array(Int32Array.of(drop()).buffer));
    case "send-buffer":
      return sys.ioctl(fd, TUNSETSNDBUF, new Uint8Array(Int32Array.of(1).buffer));
    case "link-type":
      return sys.ioctlByValue(fd, ifr.TUNSETLINK, ARPHRD_NONE);
    default:
      throw new Error(`nothing is known of "${what}"`);
  }
}

/** The descriptor of an eBPF socket filter that returns 0. */
function drop(): number {
  const bpf = koffi
    .load(null)
    .func("long syscall(long number, int command, uint8_t *attributes, unsigned int bytes)");
  // mov r0, 0; exit
  const code = Uint8Array.of(0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);
  const attributes = new DataView(new ArrayBuffer(128));
  attributes.setUint32(0, 1, true); // BPF_PROG_TYPE_SOCKET_FILTER
  attributes.setUint32(4, 2, true);
  attributes.setBigUint64(8, BigInt(sys.addressOf(code)), true);
  attributes.setBigUint64(16, BigInt(sys.addressOf(new TextEncoder().encode("GPL\0"))), true);
  const bytes = new Uint8Array(attributes.buffer);
  const program = bpf(BPF_SYSCALL, BPF_PROG_LOAD, bytes, bytes.length) as number;
  must(program);
  return program;
}

/** Some of the calls answer a count. */
function must(result: number): void {
  if (result < 0) throw new Error(`${what}: errno ${sys.errno()}`);
}
