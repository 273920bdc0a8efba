/**
 * The lifecycle of an interface: attach, up, down, reset, loss and return of the link, detach.
 *
 *            attach            up                     reset task: destroy, then restore
 *   (none) ──────────► down ◄──────► up ──trigger──► destroy ──► restore ──► up
 *                        ▲            │                              ▲
 *                        └─ linkLost ─┴──► no device ──── linkBack ──┘
 *
 * One async lock replaces the original's sx lock: attach, up, down, MTU, reset and restore run one
 * at a time. linkLost does not wait for the lock. It kills the `Com` and frees everything at once.
 * The step that holds the lock notices the loss when it resumes, and stops.
 *
 * After ena_attach, ena_up, ena_down, ena_destroy_device, ena_restore_device and ena_reset_task
 * (amzn-drivers: kernel/fbsd/ena/ena.c).
 */

import { availableParallelism } from "node:os";
import { AenqGroup } from "../../shared/ena/aenq.ts";
import { FeatureId, RxOffload, TxOffload } from "../../shared/ena/features.ts";
import { TX_MAX_BUFFER_BYTES } from "../../shared/ena/io.ts";
import { ResetReason } from "../../shared/ena/registers.ts";
import { L2_BYTES } from "../../shared/net/ethernet.ts";
import { MAX_FRAME_BYTES } from "../../shared/net/frame.ts";
import { NO_ADDRESS } from "../../shared/wire/records.ts";
import { Errno } from "../bus/errno.ts";
import { BusSpaceExhausted } from "../bus/misuse.ts";
import { Abandoned, DriverError, type DriverErrorCode } from "../driver-error.ts";
import { Ifcap, Iff } from "../net/ifnet.ts";
import { type Adapter, MIN_MTU } from "./adapter.ts";
import { Com, type DeviceFeatures } from "./control.ts";
import { countReset } from "./counters.ts";
import { interrupt } from "./datapath.ts";
import { refillAllRxBufs } from "./datapath-rx.ts";
import { transmitReady } from "./datapath-tx.ts";
import { DeviceError, errnoOf } from "./device-error.ts";
import { onEvent } from "./events.ts";
import { ioVector, MANAGEMENT_VECTOR, unmaskAll } from "./notify.ts";
import {
  clusterFor,
  createQueuesWithBackoff,
  type DropCounter,
  destroyQueues,
  ringsOf,
  sizeQueues,
  teardownRings,
} from "./queues.ts";
import { MAX_RX_BUFFER_BYTES, MapCache, PKT_MAX_BUFS } from "./rings.ts";
import { configureRss } from "./rss.ts";

/** Maximum number of ticks between attempts to restore. */
const MAX_RETRY_TICKS = 32;
/** Time (ms) that a detach waits for each answer of the device. */
const DETACH_TIMEOUT_MS = 1000;

// Finding the device.

/** ena_device_init: from the reset to the placement of queues. Throws DriverError or Abandoned. */
async function deviceInit(adapter: Adapter): Promise<[Com, DeviceFeatures]> {
  const { ctx } = adapter;
  if (ctx.space.link === undefined) throw new Abandoned("there is no link");
  let com: Com | undefined;
  try {
    com = new Com(ctx, adapter.adminStats);
    adapter.com = com;
    return [com, await bringUp(adapter, com)];
  } catch (error) {
    if (com !== undefined) dropCom(adapter, com, "initialisation failed");
    if (error instanceof BusSpaceExhausted) {
      throw new DriverError("NO_MEMORY", Errno.ENOMEM, error.message);
    }
    throw error;
  }
}

async function bringUp(adapter: Adapter, com: Com): Promise<DeviceFeatures> {
  // The original resets with NORMAL here. The first reset after a lost link also tells the device,
  // which has no state of us any more, why the last link ended.
  await need(com.reset(adapter.resetReason), "RESET", "the device can't be reset");
  adapter.resetReason = ResetReason.NORMAL;
  const { regs } = com;
  const version = "the device's version is too low or unreadable";
  await need(regs.validateVersion(), "VERSION", version);
  await need(regs.checkDmaWidth(), "DMA_WIDTH", "the device gives no usable DMA width");
  await need(regs.checkReady(), "NOT_READY", "the device is not ready after its reset");
  com.startAdmin();
  await com.sendHostInfo(availableParallelism());
  const untold = "the device does not tell its attributes";
  const features = await need(com.getFeatures(), "FEATURES", untold);
  const events = com.enableEvents(features.aenqGroups);
  const groups = await need(events, "EVENTS", "the device takes no event configuration");
  adapter.wdActive = ((groups >>> AenqGroup.KEEP_ALIVE) & 1) === 1;
  if (features.hints !== undefined) adapter.updateHints(features.hints);
  const memoryBar = adapter.ctx.pci.hasBar2;
  await com.placeQueues(adapter.options.llq === true ? features.llq : undefined, memoryBar);
  com.check();
  adapter.offload = features.offload;
  adapter.rssActive = com.supports(FeatureId.RSS_INDIRECTION_TABLE_CONFIG);
  if (!sizeQueues(adapter, com, features)) {
    throw new DriverError("QUEUES", Errno.EFAULT, "the device offers no usable queues");
  }
  return features;
}

/** Awaits a step of the device. Its failure is the reason why the device cannot be used. */
export async function need<T>(
  step: Promise<T>,
  code: DriverErrorCode,
  sentence: string,
): Promise<T> {
  try {
    return await step;
  } catch (error) {
    if (error instanceof DeviceError || error instanceof BusSpaceExhausted) {
      throw new DriverError(code, error.errno, `${sentence} (errno ${error.errno})`);
    }
    throw error;
  }
}

/** Releases a device: its vector handler, its waits and its memory. */
function dropCom(adapter: Adapter, com: Com, why: string): void {
  adapter.ctx.pci.setVectorHandler(MANAGEMENT_VECTOR, undefined);
  com.kill(why);
  if (adapter.com === com) adapter.com = undefined;
}

/** ena_enable_msix_and_set_admin_interrupts */
function enableManagement(adapter: Adapter, com: Com): void {
  adapter.ctx.pci.setVectorHandler(MANAGEMENT_VECTOR, () => {
    com.admin?.handleCompletions();
    com.waits.poll();
    // An event whose interrupt was on its way when a reset began belongs to the old incarnation.
    if (adapter.deviceRunning && !com.resetting) handleEvents(adapter, com);
  });
  com.enableInterrupts();
}

function handleEvents(adapter: Adapter, com: Com): void {
  com.aenq?.handle((group, syndrome, view, at) => onEvent(adapter, group, syndrome, view, at));
}

/** Marks the device as running. Handles earlier events, whose interrupt was ignored. */
function startRunning(adapter: Adapter, com: Com): void {
  adapter.deviceRunning = true;
  adapter.keepAliveTimestamp = adapter.clock();
  adapter.retryTicks = 0;
  adapter.retryBackoff = 1;
  handleEvents(adapter, com);
}

// Attach and detach.

/** ena_attach. Rejects with DriverError or Abandoned. */
export async function attach(adapter: Adapter): Promise<void> {
  if (adapter.attached) throw new Error("ena: attached twice");
  const [com, features] = await deviceInit(adapter);
  try {
    const { ifnet } = adapter;
    adapter.maxMtu = features.attributes.maxMtu;
    if (ifnet.mtu < MIN_MTU || ifnet.mtu > adapter.maxMtu) {
      const range = `${MIN_MTU} to ${adapter.maxMtu}`;
      throw new DriverError("MTU", Errno.EINVAL, `MTU ${ifnet.mtu}: the device takes ${range}`);
    }
    ifnet.mac.set(features.attributes.macAddr);
    setCapabilities(adapter);
    createTags(adapter);
    enableManagement(adapter, com);
    adapter.attached = true;
    startRunning(adapter, com);
  } catch (error) {
    dropCom(adapter, com, "attach failed");
    throw error;
  }
}

/** ENA_TSO_MAXSIZE: bytes of the longest frame that the device segments. */
const TSO_MAX_BYTES = 65_536;

/** ena_get_dev_offloads */
function setCapabilities(adapter: Adapter): void {
  const { tx, rxSupported } = adapter.offload;
  const v4 = TxOffload.L4_IPV4_CSUM_FULL | TxOffload.L4_IPV4_CSUM_PART;
  const v6 = TxOffload.L4_IPV6_CSUM_FULL | TxOffload.L4_IPV6_CSUM_PART;
  let caps = Ifcap.LRO | Ifcap.JUMBO_MTU;
  if ((tx & v4) !== 0) caps |= Ifcap.TXCSUM;
  if ((tx & v6) !== 0) caps |= Ifcap.TXCSUM_IPV6;
  if ((tx & TxOffload.TSO_IPV4) !== 0) caps |= Ifcap.TSO4;
  if ((tx & TxOffload.TSO_IPV6) !== 0) caps |= Ifcap.TSO6;
  if ((rxSupported & (RxOffload.L4_IPV4_CSUM | RxOffload.L3_CSUM_IPV4)) !== 0) caps |= Ifcap.RXCSUM;
  if ((rxSupported & RxOffload.L4_IPV6_CSUM) !== 0) caps |= Ifcap.RXCSUM_IPV6;
  const { ifnet } = adapter;
  // Another device may offer more or less. Capabilities that were disabled stay disabled.
  const wantOff = adapter.options.lro === false ? Ifcap.LRO : 0;
  const off = adapter.attached ? ifnet.capabilities & ~ifnet.capEnable : wantOff;
  ifnet.capabilities = caps | (ifnet.capabilities & Ifcap.NETMAP);
  ifnet.capEnable = ifnet.capabilities & ~off;
  // This includes link headers. The original's value is without them.
  ifnet.hwTsomax = Math.min(TSO_MAX_BYTES, adapter.ctx.space.pushBytes);
  adapter.gate.maxFrameBytes = adapter.maxMtu + L2_BYTES;
}

/** ena_setup_tx_dma_tag, ena_setup_rx_dma_tag */
function createTags(adapter: Adapter): void {
  const { space, name } = adapter.ctx;
  adapter.txMaps = new MapCache(
    space.createTag({
      name: `${name} tx`,
      alignment: 1,
      boundary: 0,
      maxSize: MAX_FRAME_BYTES,
      nSegments: PKT_MAX_BUFS,
      maxSegSize: TX_MAX_BUFFER_BYTES,
      direction: "toDevice",
    }),
  );
  adapter.rxTag = space.createTag({
    name: `${name} rx`,
    alignment: 1,
    boundary: 0,
    maxSize: MAX_RX_BUFFER_BYTES,
    nSegments: 1,
    maxSegSize: MAX_RX_BUFFER_BYTES,
    direction: "fromDevice",
  });
}

/** ena_detach: down, reset, then frees everything. The caller holds the lock. */
export async function detach(adapter: Adapter): Promise<void> {
  adapter.ifnet.flags &= ~Iff.UP;
  if (!adapter.attached) return;
  const { com } = adapter;
  if (adapter.ctx.space.link === undefined) linkLost(adapter);
  try {
    if (com?.alive === true) {
      com.applyTimeouts(DETACH_TIMEOUT_MS, DETACH_TIMEOUT_MS);
      await down(adapter);
      await errnoOf(com.reset(ResetReason.NORMAL));
      com.check();
      com.regs.tellResponseAddress(NO_ADDRESS);
    }
  } catch (error) {
    if (!(error instanceof Abandoned)) throw error;
  } finally {
    adapter.generation++;
    adapter.attached = false;
    adapter.deviceRunning = false;
    if (com !== undefined) dropCom(adapter, com, "the driver detaches");
    adapter.linkUp = false;
    adapter.ifnet.setLinkState(false);
    adapter.txMaps?.destroy();
    adapter.rxTag?.destroy();
  }
}

// Up and down.

/** ena_up. The caller holds the lock. Rejects with DeviceError, BusSpaceExhausted or Abandoned. */
export async function up(adapter: Adapter): Promise<void> {
  const { com, ifnet, ctx } = adapter;
  if (!adapter.attached || com === undefined) throw new DeviceError(Errno.ENXIO);
  if (adapter.devUp) return;
  await createQueuesWithBackoff(adapter, com);
  try {
    await upComplete(adapter, com);
  } catch (error) {
    await destroyQueues(com, ringsOf(adapter));
    com.check();
    teardownRings(adapter);
    throw error;
  }
  for (const pair of adapter.queues) {
    ctx.pci.setVectorHandler(ioVector(pair.rx.qid), () => interrupt(adapter, pair));
  }
  adapter.devStats.interface_up++;
  ifnet.flags = (ifnet.flags | Iff.DRV_RUNNING) & ~Iff.DRV_OACTIVE;
  adapter.devUp = true;
  unmaskAll(adapter);
  transmitReady(adapter);
}

/** ena_up_complete */
async function upComplete(adapter: Adapter, com: Com): Promise<void> {
  if (adapter.rssActive) {
    const rxSqIndexes = adapter.queues.map(({ rx }) => rx.sq.idx);
    adapter.rssActive = await configureRss(com, adapter.rss, rxSqIndexes);
  }
  await com.setMtu(adapter.ifnet.mtu);
  com.check();
  await refillAllRxBufs(adapter, com);
}

/** ena_down. Needs the lock. A pending reset comes first, to stop the writes of the device. */
export async function down(adapter: Adapter): Promise<void> {
  const { com } = adapter;
  if (!adapter.devUp || com === undefined) return;
  quiesce(adapter);
  let drops: DropCounter = "dropped_down";
  if (adapter.triggerReset) {
    drops = "dropped_reset";
    const errno = await errnoOf(com.reset(adapter.resetReason));
    if (errno !== 0) adapter.log.error({ errno }, "device reset failed");
  } else {
    await destroyQueues(com, ringsOf(adapter));
  }
  com.check();
  // A device that did not answer may still write to memory that is no longer mapped. For a while
  // such accesses are only counted.
  adapter.ctx.space.onDeviceReset();
  teardownRings(adapter, drops);
  adapter.devStats.interface_down++;
}

/** Stops transmission by the stack, and interrupts of the rings. */
function quiesce(adapter: Adapter): void {
  adapter.devUp = false;
  const { ifnet } = adapter;
  ifnet.flags = (ifnet.flags & ~Iff.DRV_RUNNING) | Iff.DRV_OACTIVE;
  for (const { rx } of adapter.queues) {
    adapter.ctx.pci.setVectorHandler(ioVector(rx.qid), undefined);
  }
}

/** ena_change_mtu. The caller holds the lock. Returns 0, or an errno and keeps the old MTU. */
export async function changeMtu(adapter: Adapter, mtu: number): Promise<number> {
  const { ifnet, com } = adapter;
  if (!Number.isInteger(mtu) || mtu < MIN_MTU || mtu > adapter.maxMtu) return Errno.EINVAL;
  if (!adapter.deviceRunning || com === undefined) {
    // Without a device the MTU is only stored. The next device accepts it, or its restore fails.
    ifnet.mtu = mtu;
    return 0;
  }
  const errno = await errnoOf(com.setMtu(mtu));
  if (errno !== 0) return errno;
  const otherBuffers = clusterFor(mtu) !== clusterFor(ifnet.mtu);
  ifnet.mtu = mtu;
  // If a reset is due, the restore creates the buffers.
  if (!adapter.devUp || !otherBuffers || adapter.triggerReset) return 0;
  await down(adapter);
  return errnoOf(up(adapter));
}

// Reset.

/** ena_destroy_device. The caller holds the lock. */
async function destroyDevice(adapter: Adapter, com: Com): Promise<void> {
  adapter.generation++;
  adapter.ifnet.setLinkState(false);
  if (com.admin !== undefined) com.admin.running = false;
  const wasUp = adapter.devUp;
  await down(adapter);
  // If the interface was up, `down` has reset the device.
  if (!wasUp) await errnoOf(com.reset(adapter.resetReason));
  com.check();
  dropCom(adapter, com, "the device was reset");
  adapter.ctx.space.onDeviceReset();
  adapter.resetReason = ResetReason.NORMAL;
  adapter.triggerReset = false;
  adapter.deviceRunning = false;
}

/**
 * ena_restore_device: initialises the same device again, or a compatible one, if the interface has
 * none. The caller holds the lock. Logs a failure, and retries it if it may be temporary. Rejects only for bugs of this
 * program.
 */
export async function restoreDevice(adapter: Adapter): Promise<void> {
  if (!adapter.attached || adapter.com !== undefined) return;
  adapter.ongoingReset = true;
  let init: [Com, DeviceFeatures] | undefined;
  try {
    init = await deviceInit(adapter);
    const [com, features] = init;
    validate(adapter, features);
    adapter.maxMtu = features.attributes.maxMtu;
    setCapabilities(adapter);
    adapter.ongoingReset = false;
    if (adapter.linkUp) adapter.ifnet.setLinkState(true);
    enableManagement(adapter, com);
    if ((adapter.ifnet.flags & Iff.UP) !== 0) {
      await need(up(adapter), "UP", "the interface can't be brought up again");
    }
    startRunning(adapter, com);
  } catch (error) {
    restoreFailed(adapter, init?.[0], error);
  } finally {
    adapter.ongoingReset = false;
  }
}

/** ena_device_validate_params */
function validate(adapter: Adapter, features: DeviceFeatures): void {
  const { macAddr, maxMtu } = features.attributes;
  if (!macAddr.every((byte, i) => byte === adapter.ifnet.mac[i])) {
    throw new DriverError("MAC_CHANGED", Errno.EINVAL, "the device has another MAC address now");
  }
  if (maxMtu < adapter.ifnet.mtu) {
    const limits = `takes an MTU of at most ${maxMtu}, the interface has ${adapter.ifnet.mtu}`;
    throw new DriverError("MTU_SHRUNK", Errno.EINVAL, `the device ${limits}`);
  }
}

function restoreFailed(adapter: Adapter, com: Com | undefined, error: unknown): void {
  // linkLost has already cleaned up, and linkBack will come.
  if (error instanceof Abandoned) return;
  if (!(error instanceof DriverError)) throw error;
  adapter.devStats.reset_failures++;
  adapter.deviceRunning = false;
  adapter.linkUp = false;
  adapter.ifnet.setLinkState(false);
  if (com !== undefined) dropCom(adapter, com, "restore failed");
  const final = error.code === "MAC_CHANGED" || error.code === "MTU_SHRUNK";
  const then = final ? "the interface stays down" : "it is tried again";
  adapter.log.error({ code: error.code, errno: error.errno }, `${error.message}; ${then}`);
  if (final) return;
  adapter.retryTicks = adapter.retryBackoff;
  adapter.retryBackoff = Math.min(adapter.retryBackoff * 2, MAX_RETRY_TICKS);
}

/** ena_reset_task. The caller holds the lock. */
export async function resetTask(adapter: Adapter): Promise<void> {
  const { com } = adapter;
  if (!adapter.triggerReset || com === undefined) return;
  try {
    // A device that does not answer reads can't be reset either. The next tick tries again.
    if ((await errnoOf(com.regs.validateVersion())) === Errno.ETIMEDOUT) {
      adapter.log.warn({}, "device does not answer, its reset waits");
      return;
    }
    com.check();
    const reason = adapter.resetReason;
    adapter.log.warn({ reason }, "resetting the device");
    countReset(adapter.devStats, reason);
    await destroyDevice(adapter, com);
  } catch (error) {
    if (error instanceof Abandoned) return;
    throw error;
  }
  await restoreDevice(adapter);
  if (adapter.deviceRunning) adapter.log.info({}, "device reset completed");
}

// The link.

/** Handles the loss of the link. The device has no state of us, so its buffers are ours again. */
export function linkLost(adapter: Adapter): void {
  const { com } = adapter;
  if (com === undefined) return;
  adapter.generation++;
  adapter.devStats.link_losses++;
  if (adapter.devUp) adapter.devStats.interface_down++;
  quiesce(adapter);
  dropCom(adapter, com, "the link is gone");
  adapter.ctx.space.onDeviceReset();
  teardownRings(adapter, "dropped_link");
  adapter.deviceRunning = false;
  if (adapter.suspending) adapter.resetReason = ResetReason.NORMAL;
  else if (!adapter.triggerReset) adapter.resetReason = ResetReason.KEEP_ALIVE_TO;
  adapter.suspending = false;
  adapter.triggerReset = false;
  adapter.retryTicks = 0;
  adapter.linkUp = false;
  adapter.ifnet.setLinkState(false);
}
