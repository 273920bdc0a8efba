/**
 * The network interface: where a driver and whatever sits on top of it meet.
 *
 *   TAP host, generator, netmap's emulated adapter       transmit ▼   ▲ input, inputDone
 *   ────────────────────────── Ifnet ──────────────────────────────────────────────────
 *   driver                                               transmit ▼   ▲ input, inputDone
 *
 * The driver sets capabilities, IFF_DRV_* and link state, and assigns `transmit` and `setMtu`. The
 * user of the interface assigns `input`, `inputDone`, `onTransmitReady` and `onLinkState`. Before
 * that the functions refuse packets to send, and free and count received ones.
 *
 * Source: FreeBSD sys/net/if.h; ifnet(9).
 */
import type { QueueId } from "../../shared/net/frame.ts";
import type { IfCounters, LinkState } from "../../shared/status/frontend-status.ts";
import { Errno } from "../bus/errno.ts";
import type { Mbuf } from "./mbuf.ts";

/** IFF_* of net/if.h. */
export const Iff = { UP: 0x1, DRV_RUNNING: 0x40, DRV_OACTIVE: 0x400 } as const;

/** IFCAP_* of net/if.h. `capabilities` is what can be had, `capEnable` what is on. */
export const Ifcap = {
  RXCSUM: 0x1,
  TXCSUM: 0x2,
  JUMBO_MTU: 0x20,
  TSO4: 0x100,
  TSO6: 0x200,
  LRO: 0x400,
  NETMAP: 0x100000,
  RXCSUM_IPV6: 0x200000,
  TXCSUM_IPV6: 0x400000,
} as const;

/** bpf(4)'s place: sees packets at the driver's side of the interface, and only looks. */
export interface BpfTap {
  /** Sent: the driver has it, or an application of netmap gets it; then `queue` is NO_QUEUE. */
  output(m: Mbuf, queue: QueueId): void;
  /** Received, merged if it was; the stack gets it next. `queue` is NO_QUEUE for a frame of netmap. */
  input(m: Mbuf, queue: QueueId): void;
}

export class Ifnet {
  readonly name: string;
  /** Six bytes. */
  readonly mac: Uint8Array;
  mtu: number;
  /** Iff bits. */
  flags = 0;
  /** Ifcap bits. */
  capabilities = 0;
  capEnable = 0;
  /** if_hw_tsomax: bytes of the longest frame that the driver cuts itself, Ethernet header included. */
  hwTsomax = Number.POSITIVE_INFINITY;
  linkState: LinkState = "unknown";
  /** True while received packets are those that waited for this process. The driver drops them. */
  stale = false;
  readonly counters: IfCounters = {
    ipackets: 0,
    ibytes: 0,
    opackets: 0,
    obytes: 0,
    ierrors: 0,
    oerrors: 0,
    iqdrops: 0,
    oqdrops: 0,
  };

  readonly #one: Mbuf[] = [];

  constructor(name: string, mac: Uint8Array, mtu: number) {
    if (mac.length !== 6) throw new RangeError(`${name}: a MAC of ${mac.length} bytes`);
    this.name = name;
    this.mac = mac;
    this.mtu = mtu;
  }

  /**
   * Sends `mbufs[0]` to `mbufs[n - 1]` in order, and notifies the device behind them. Returns how
   * many the driver accepted; those are the driver's from then on, whatever becomes of them. The
   * caller keeps the others. `transmitErrno` says why the first of them was refused: on ENOBUFS and
   * ENETDOWN the caller stops its source until onTransmitReady, on EMSGSIZE it drops that packet.
   */
  transmit: (mbufs: readonly Mbuf[], n: number) => number = () => {
    this.transmitErrno = Errno.ENETDOWN;
    return 0;
  };

  /** Why the last `transmit` accepted fewer packets than it was given; 0 when it accepted all. */
  transmitErrno = 0;

  /** `transmit` for one packet. 0: the driver owns it. Else the errno, and the caller keeps it. */
  send(m: Mbuf): number {
    const one = this.#one;
    one[0] = m;
    return this.transmit(one, 1) === 1 ? 0 : this.transmitErrno;
  }

  /** Bytes of IP packet. Resolves to 0, or to an errno, the MTU being as before. */
  setMtu: (mtu: number) => Promise<number> = async () => Errno.ENXIO;

  /** A packet came in; the receiver owns it. */
  input: (m: Mbuf) => void = (m) => {
    this.counters.iqdrops++;
    m.free();
  };

  /** Set while a capture runs. The caller of `input` shows it each packet before. */
  bpf: BpfTap | undefined = undefined;

  /** Called after a burst of `input` calls. The receiver then forwards what it gathered. */
  inputDone: () => void = () => {};

  /** Called when there is room again after an ENOBUFS. */
  onTransmitReady: () => void = () => {};

  onLinkState: (up: boolean) => void = () => {};

  /** if_link_state_change(9): calls onLinkState only when the state changes. */
  setLinkState(up: boolean): void {
    const state: LinkState = up ? "up" : "down";
    if (this.linkState === state) return;
    this.linkState = state;
    this.onLinkState(up);
  }
}
