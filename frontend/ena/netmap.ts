/**
 * Native netmap support: registers the interface with netmap, and changes rings between mbufs and
 * slots when ports are opened and closed.
 *
 *   netmapAttach ──► Netmap.attach({ register, txsync, rxsync, config })
 *   open, close  ──► register: down (buffers return to where they came from), modes, up
 *   traffic      ──► netmap-rx.ts, netmap-tx.ts       the mode of each ring: EnaNetmap
 *
 * The interface goes down before the modes change. So each ring returns its buffers while its mode
 * still tells whether they are mbufs or slots. After ena_netmap_attach and ena_netmap_reg
 * (amzn-drivers: kernel/fbsd/ena/ena_netmap.c).
 */

import { ResetReason } from "../../shared/ena/registers.ts";
import { L2_BYTES } from "../../shared/net/ethernet.ts";
import { Errno } from "../bus/errno.ts";
import { unlessLost } from "../driver-error.ts";
import { Ifcap, Iff } from "../net/ifnet.ts";
import type { NativeAdapter, NmConfig } from "../netmap/adapter.ts";
import { Naf, RingMode, Txrx } from "../netmap/flags.ts";
import type { Kring } from "../netmap/kring.ts";
import type { NetmapMemory } from "../netmap/memory.ts";
import type { Adapter } from "./adapter.ts";
import { errnoOf } from "./device-error.ts";
import { down, resetTask, up } from "./lifecycle.ts";
import { rxsync } from "./netmap-rx.ts";
import { txsync } from "./netmap-tx.ts";

/**
 * The driver's netmap state while netmap can open the interface. Each ring uses either mbufs or
 * netmap slots, so partly opened ports work.
 */
export class EnaNetmap {
  /** The interface's adapter in the core of netmap. */
  readonly na: NativeAdapter;
  /** By queue: true while the end of a packet that can't be sent is not released yet. */
  readonly txDropping: boolean[] = [];
  /** True while released slots wait for the link, the push budget or the device. */
  txWaits = false;

  constructor(na: NativeAdapter) {
    this.na = na;
  }

  /** ena_rx_ring_in_netmap: IFCAP_NETMAP is on, the adapter native, and the kring in netmap mode. */
  hasRxRing(qid: number): boolean {
    return this.#has(qid, Txrx.RX);
  }

  /** ena_tx_ring_in_netmap */
  hasTxRing(qid: number): boolean {
    return this.#has(qid, Txrx.TX);
  }

  #has(qid: number, t: Txrx): boolean {
    const { na } = this;
    if (na.ifnet === undefined || (na.ifnet.capEnable & Ifcap.NETMAP) === 0) return false;
    return na.kringOn(qid, t) !== undefined;
  }

  /** Wakes the applications with waiting slots, because there is room: they may sync again. */
  txReady(): void {
    if (!this.txWaits) return;
    this.txWaits = false;
    for (const kring of this.na.txRings) {
      if (kring.nrMode === RingMode.ON && kring.nrHwcur !== kring.rhead) {
        this.na.txIrq(kring.ringId);
      }
    }
  }
}

/** ena_netmap_attach, after the device's queue limits are known. Throws NetmapError. */
export function netmapAttach(adapter: Adapter): void {
  const { netmap } = adapter.options;
  if (netmap === undefined) return;
  const state: EnaNetmap = new EnaNetmap(
    netmap.attach({
      ifnet: adapter.ifnet,
      flags: Naf.MOREFRAG,
      ...config(adapter, netmap.memory),
      register: (_na, on) => adapter.lock.run(() => register(adapter, on)),
      txsync: (kring) => txsync(adapter, state, kring),
      rxsync: (kring) => rxsync(adapter, kring),
      config: (port) => config(adapter, port.memory),
    }),
  );
  adapter.ifnet.capabilities |= Ifcap.NETMAP;
  adapter.netmap = state;
}

/** Detaches from netmap. Open ports report errors from now on. The interface must be down. */
export function netmapDetach(adapter: Adapter): void {
  const { netmap } = adapter.options;
  if (netmap === undefined || adapter.netmap === undefined) return;
  netmap.detach(adapter.netmap.na);
  netmap.removeInterface(adapter.ifnet);
  adapter.netmap = undefined;
  adapter.ifnet.capabilities &= ~Ifcap.NETMAP;
}

/**
 * nm_config, which replaces ena_reinit_netmap: another device may offer other queues. The next port
 * uses them if no other port is open. An open port keeps its rings; rings without a queue are idle.
 *
 * The device fills a buffer to its end, whatever the MTU. The original gives a ring length here,
 * which refuses MTUs that would work.
 */
function config(adapter: Adapter, { bufSize }: NetmapMemory): NmConfig {
  return {
    numTxRings: adapter.numQueues,
    numRxRings: adapter.numQueues,
    numTxDesc: adapter.requestedTxRingSize,
    numRxDesc: adapter.requestedRxRingSize,
    rxBufMaxsize: bufSize,
  };
}

/** ena_netmap_reg, under the interface's lock. Returns 0, or an errno and changes no ring. */
async function register(adapter: Adapter, on: boolean): Promise<number> {
  const na = adapter.netmap?.na;
  if (na === undefined) return Errno.ENXIO;
  const mostBytes = adapter.maxRxSgl * na.memory.bufSize;
  if (on && adapter.ifnet.mtu + L2_BYTES > mostBytes) return Errno.EINVAL;
  // A device that waits for its reset accepts no commands, so the reset comes first.
  await resetTask(adapter);
  await unlessLost(down(adapter));
  const changed = on ? modesOn(adapter, na) : modesOff(na);
  const errno = await bringUp(adapter);
  if (errno === 0 || !on) return 0;
  // The errno tells netmap of the failure, so no ring may stay in the new mode.
  for (const kring of changed) kring.nrMode = RingMode.OFF;
  na.clearNativeFlags();
  await resetTask(adapter);
  return errno;
}

/** Sets the pending rings to netmap mode. Returns their krings. */
function modesOn(adapter: Adapter, na: NativeAdapter): readonly Kring[] {
  const changed = [...na.rxRings, ...na.txRings].filter((kring) => kring.isPendingOn);
  for (const kring of changed) {
    if (kring.tx === Txrx.RX) forgetUnread(kring);
    else if (adapter.netmap !== undefined) adapter.netmap.txDropping[kring.ringId] = false;
  }
  na.modeCommit(true);
  na.setNativeFlags();
  return changed;
}

/** Drops the frames that the last user of a ring left unread: an opened ring starts empty. */
function forgetUnread(kring: Kring): void {
  kring.nrHwcur = kring.rhead;
  kring.nrHwtail = kring.rhead;
  kring.rtail = kring.rhead;
  if (kring.ring !== undefined) kring.ring.tail = kring.rhead;
}

function modesOff(na: NativeAdapter): readonly Kring[] {
  na.clearNativeFlags();
  na.modeCommit(false);
  return [];
}

/** Brings the interface up again if it was up and there is a device. A refusal requests a reset. */
async function bringUp(adapter: Adapter): Promise<number> {
  if (!adapter.deviceRunning || adapter.triggerReset) return 0;
  if ((adapter.ifnet.flags & Iff.UP) === 0) return 0;
  const errno = await unlessLost(errnoOf(up(adapter)));
  if (errno === undefined || errno === 0) return 0;
  adapter.log.error({ errno }, "netmap: the interface can't come up in the new mode");
  adapter.requestReset(ResetReason.DRIVER_INVALID_STATE);
  return errno;
}
