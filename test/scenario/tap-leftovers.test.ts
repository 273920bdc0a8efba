/** A persistent TAP that an earlier program used: its leftover settings must not affect us. */
import koffi from "koffi";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import * as sys from "../../shared/reactor/sys.ts";
import * as ifr from "../../shared/tap/ifreq.ts";
import { attachTap, openControlSocket } from "../../shared/tap/open.ts";
import { ping } from "../support/iperf.ts";
import { Lab, TAP } from "../support/lab.ts";
import { type Namespace, whyNoNamespaces } from "../support/netns.ts";

const why = whyNoNamespaces();
const UPLINK = "lab0";
const ADDRESS = "10.202.0.200";

const TUNGETSNDBUF = 0x8004_54d3;
const TUNSETSNDBUF = 0x4004_54d4;
const TUNATTACHFILTER = 0x4010_54d5;
const ARPHRD_NONE = 0xfffe;
const BPF_PROG_LOAD = 5;
const BPF_SYSCALL = process.arch === "arm64" ? 280 : 321;

/** Settings that an earlier program may leave on a persistent TAP; `fd` is its descriptor. */
const LEFTOVERS = {
  // A single address that no frame is sent to.
  "tx-filter": (fd: number) =>
    sys.ioctl(fd, ifr.TUNSETTXFILTER, Uint8Array.of(0, 0, 1, 0, 2, 0, 0, 0, 0, 0x99)),
  "classic-bpf": (fd: number) => {
    // BPF_RET | BPF_K with 0: drops every frame.
    const program = fixed(Uint8Array.of(6, 0, 0, 0, 0, 0, 0, 0));
    const fprog = new DataView(new ArrayBuffer(16));
    fprog.setUint16(0, 1, true);
    fprog.setBigUint64(8, BigInt(program), true);
    return sys.ioctl(fd, TUNATTACHFILTER, new Uint8Array(fprog.buffer));
  },
  ebpf: (fd: number) => sys.ioctl(fd, ifr.TUNSETFILTEREBPF, bytesOfInt(dropProgram())),
  "send-buffer": (fd: number) => sys.ioctl(fd, TUNSETSNDBUF, bytesOfInt(1)),
  "link-type": (fd: number) => sys.ioctlByValue(fd, ifr.TUNSETLINK, ARPHRD_NONE),
};

/** Buffers whose address the kernel has got. */
const fixedBuffers: Uint8Array[] = [];

/** The address of a copy of a few bytes that V8 neither moves nor collects. */
function fixed(bytes: Uint8Array): number {
  const buffer = new Uint8Array(128);
  buffer.set(bytes);
  fixedBuffers.push(buffer);
  return sys.addressOf(buffer);
}

const bytesOfInt = (value: number) => new Uint8Array(Int32Array.of(value).buffer);

/** The descriptor of an eBPF socket filter that returns 0. */
function dropProgram(): number {
  const bpf = koffi
    .load(null)
    .func("long syscall(long number, int command, uint8_t *attributes, unsigned int bytes)");
  // mov r0, 0; exit
  const code = Uint8Array.of(0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);
  const attributes = new DataView(new ArrayBuffer(128));
  attributes.setUint32(0, 1, true); // BPF_PROG_TYPE_SOCKET_FILTER
  attributes.setUint32(4, 2, true);
  attributes.setBigUint64(8, BigInt(fixed(code)), true);
  attributes.setBigUint64(16, BigInt(fixed(new TextEncoder().encode("GPL\0"))), true);
  const bytes = new Uint8Array(attributes.buffer);
  return must(bpf(BPF_SYSCALL, BPF_PROG_LOAD, bytes, bytes.length) as number);
}

/** Throws on an error; some calls return a count. */
function must(result: number): number {
  if (result < 0) throw new Error(`errno ${sys.errno()}`);
  return result;
}

/** Makes a persistent TAP and leaves a setting on it, as a program that has ended. */
function leave(namespace: Namespace, tap: string, what: keyof typeof LEFTOVERS): void {
  namespace.ip("tuntap", "add", "mode", "tap", "name", tap);
  using _inside = namespace.enter();
  const fd = must(sys.open("/dev/net/tun", sys.O_RDWR));
  const request = new ifr.Ifreq();
  request.about(tap);
  request.flags = ifr.IFF_TAP | ifr.IFF_NO_PI;
  must(sys.ioctl(fd, ifr.TUNSETIFF, request.bytes));
  must(LEFTOVERS[what](fd));
  sys.close(fd);
}

describe.skipIf(why !== undefined)(`a persistent TAP with a past${why ? `: ${why}` : ""}`, () => {
  let lab: Lab;

  beforeEach(() => {
    lab = new Lab(2);
  });

  afterEach(async () => {
    await lab.close();
  });

  it.each(["tx-filter", "classic-bpf", "ebpf"] as const)(
    "case-W11 %s of an earlier program stops no frame: frontend and uplink",
    async (what) => {
      const { namespace } = lab.host(0);
      leave(namespace, TAP, what);
      leave(lab.device, UPLINK, what);

      const device = await lab.startDevice(["--uplink", `tap:${UPLINK}`]);
      lab.device.ip("link", "set", UPLINK, "up");
      lab.device.ip("addr", "add", `${ADDRESS}/24`, "dev", UPLINK);
      lab.configureTap(0);
      await lab.carrier(0, true, await lab.startFrontend(0));
      await lab.startFrontend(1);
      const reached = async (from: Namespace, address: string) => {
        const { sent, received } = await ping({ from, address, count: 5, intervalSeconds: 0.05 });
        expect(received, device.said()).toBe(sent);
      };
      await reached(namespace, lab.host(1).address);
      await reached(lab.device, lab.host(1).address);
    },
  );

  it.each(["send-buffer", "link-type"] as const)("case-W11 %s is that of a new TAP", (what) => {
    const { namespace } = lab.host(0);
    leave(namespace, TAP, what);
    using _inside = namespace.enter();
    const options = { name: TAP, mac: undefined, mtu: undefined, offloads: true, bringUp: false };
    const control = openControlSocket();
    const { fd } = attachTap(options, control, () => {});
    const sendBuffer = new Int32Array(1);
    must(sys.ioctl(fd, TUNGETSNDBUF, new Uint8Array(sendBuffer.buffer)));
    const request = new ifr.Ifreq();
    must(sys.ioctl(fd, ifr.SIOCGIFHWADDR, request.about(TAP)));
    for (const open of [fd, control]) sys.close(open);
    expect({ sendBuffer: sendBuffer[0], linkType: request.linkType }).toEqual({
      sendBuffer: 0x7fff_ffff,
      linkType: 1,
    });
  });

  it("case-W11 a link type that can't be set back is a sentence", async () => {
    const { namespace } = lab.host(0);
    leave(namespace, TAP, "link-type");
    // The kernel can't change the type of an interface that is up.
    namespace.ip("link", "set", TAP, "up");
    await lab.startDevice();
    const frontend = lab.launchFrontend(0);
    expect(await frontend.ended()).toEqual({ code: 1, signal: null });
    expect(frontend.stderr).toMatch(/ring0 to a link type that is not Ethernet: make it anew/);
  });
});
