/**
 * The resources of a connected interface: its mapped rings and bound channels. They are acquired all
 * together or not at all, and released together.
 */

import { type QueueId, queueId } from "../../../shared/net/frame.ts";
import type { VifStatus } from "../../../shared/status/device-status.ts";
import { type LinkState, XenRingKind } from "../../../shared/wire/link-state.ts";
import { RecordType } from "../../../shared/wire/records.ts";
import { CTRL_SLOT_SIZE } from "../../../shared/xen/control.ts";
import { grantRef } from "../../../shared/xen/grant.ts";
import { RX_SLOT_SIZE, TX_SLOT_SIZE } from "../../../shared/xen/netif.ts";
import { BACKEND_DOMID, queueName, VifKey } from "../../../shared/xen/xenbus.ts";
import { BackRing } from "./back-ring.ts";
import { Channel } from "./channel.ts";
import { type NetbackConfig, type QueueConfig, VifKeyError } from "./config.ts";
import { ControlRing } from "./control.ts";
import { Hashing } from "./hash.ts";
import type { Netback } from "./netback.ts";
import { RxQueue } from "./rx.ts";
import { TxQueue } from "./tx.ts";

/** Index of a channel in a queue's pair of channels. */
interface Pair {
  readonly tx: Channel;
  readonly rx: Channel;
}

export class Attachment {
  readonly tx: TxQueue[] = [];
  readonly rx: RxQueue[] = [];
  readonly hashing: Hashing;
  control: ControlRing | undefined;
  readonly #vif: Netback;
  readonly #pairs: Pair[] = [];
  readonly #channels: Channel[] = [];
  #controlChannel: Channel | undefined;
  /** Mapped rings that belong to no queue yet. */
  #loose: BackRing[] = [];

  /** Maps all rings and binds all channels. On failure returns a sentence that names the key. */
  static open(vif: Netback, config: NetbackConfig): Attachment | string {
    const attached = new Attachment(vif, config.queues.length);
    try {
      config.queues.forEach((queue, i) => {
        const dir = config.queues.length === 1 ? "" : `${queueName(i)}/`;
        attached.#openQueue(queueId(i), dir, queue, config.rxNotify);
      });
      if (config.control !== undefined) attached.#openControl(config.control);
      return attached;
    } catch (error) {
      attached.close();
      if (error instanceof VifKeyError) return error.message;
      throw error;
    }
  }

  private constructor(vif: Netback, queues: number) {
    this.#vif = vif;
    this.hashing = new Hashing(queues);
  }

  #openQueue(index: QueueId, dir: string, queue: QueueConfig, rxNotify: boolean): void {
    const { TX_RING_REF, RX_RING_REF } = VifKey;
    const tx = this.#openRing(
      `${dir}${TX_RING_REF}`,
      queue.txRingRef,
      TX_SLOT_SIZE,
      RecordType.XEN_TX_RSP,
    );
    const rx = this.#openRing(
      `${dir}${RX_RING_REF}`,
      queue.rxRingRef,
      RX_SLOT_SIZE,
      RecordType.XEN_RX_RSP,
    );
    if (queue.txPort === queue.rxPort) {
      const both = this.#openChannel(`${dir}${VifKey.EVENT_CHANNEL}`, queue.txPort, [tx, rx]);
      this.#pairs.push({ tx: both, rx: both });
    } else {
      this.#pairs.push({
        tx: this.#openChannel(`${dir}${VifKey.EVENT_CHANNEL_TX}`, queue.txPort, [tx]),
        rx: this.#openChannel(`${dir}${VifKey.EVENT_CHANNEL_RX}`, queue.rxPort, [rx]),
      });
    }
    this.#loose = [];
    this.tx.push(new TxQueue(this.#vif, index, tx));
    this.rx.push(new RxQueue(this.#vif, index, rx, rxNotify));
  }

  #openControl({ ringRef, port }: { ringRef: number; port: number }): void {
    const ring = this.#openRing(
      VifKey.CTRL_RING_REF,
      ringRef,
      CTRL_SLOT_SIZE,
      RecordType.XEN_CTRL_RSP,
    );
    this.#controlChannel = this.#openChannel(VifKey.EVENT_CHANNEL_CTRL, port, [ring]);
    this.#loose = [];
    this.control = new ControlRing(this.#vif, ring, this.hashing);
  }

  #openRing(key: string, reference: number, slotBytes: number, type: RecordType): BackRing {
    const ring = new BackRing(this.#vif.context, key, grantRef(reference), slotBytes, type);
    this.#loose.push(ring);
    return ring;
  }

  #openChannel(key: string, guestPort: number, rings: readonly BackRing[]): Channel {
    const { domid, events } = this.#vif.context;
    const port = events.bindInterdomain(BACKEND_DOMID, domid, guestPort);
    if (port < 0) throw new VifKeyError(key, `port ${guestPort} can't be bound (errno ${-port})`);
    const channel = new Channel(events, port, guestPort, rings, () => this.#vif.wake());
    this.#channels.push(channel);
    return channel;
  }

  /**
   * True if the guest may be waiting for something: received frames, answers of the control ring, a
   * request for receive slots, or responses that a sender needs.
   */
  get isUrgent(): boolean {
    for (let i = 0; i < this.tx.length; i++) {
      const { ring } = this.rx[i]!;
      if (ring.staged > 0 || ring.posted || this.tx[i]!.isUrgent) return true;
    }
    const control = this.control?.ring;
    return control !== undefined && (control.staged > 0 || control.posted);
  }

  /** True if responses of a transmit ring wait for company. */
  get keepsResponses(): boolean {
    for (let i = 0; i < this.tx.length; i++) if (this.tx[i]!.ring.staged > 0) return true;
    return false;
  }

  /**
   * Publishes each ring's staged responses, then notifies the frontend where it asked for that.
   * Returns whether anything was sent.
   */
  publish(): boolean {
    let posted = false;
    for (let i = 0; i < this.tx.length; i++) {
      const pair = this.#pairs[i]!;
      const tx = this.tx[i]!.ring;
      const rx = this.rx[i]!.ring;
      if (tx.staged > 0) this.tx[i]!.beforeResponses();
      if (tx.publish()) pair.tx.notify = true;
      if (rx.publish()) pair.rx.notify = true;
      if (tx.takePosted()) posted = true;
      if (rx.takePosted()) posted = true;
    }
    if (this.control !== undefined) {
      const { ring } = this.control;
      if (ring.publish()) this.#controlChannel!.notify = true;
      if (ring.takePosted()) posted = true;
    }
    this.#vif.kept.clear();
    for (let i = 0; i < this.#channels.length; i++) this.#channels[i]!.send();
    return posted;
  }

  /** Ends the turns of all events that were worked on. */
  eoi(): void {
    for (let i = 0; i < this.#channels.length; i++) this.#channels[i]!.eoi();
  }

  touches(address: number, length: number): boolean {
    return this.rings.some((ring) => ring.touches(address, length));
  }

  /** Transmit, receive, control. */
  get rings(): readonly BackRing[] {
    const rings = [...this.tx, ...this.rx].map(({ ring }) => ring);
    return this.control === undefined ? rings : [...rings, this.control.ring];
  }

  /** Releases everything. No method may be called afterwards. */
  close(): void {
    for (const queue of this.tx) queue.close();
    for (const queue of this.rx) queue.close();
    this.control?.close();
    for (const ring of this.#loose.splice(0)) ring.close();
    for (const channel of this.#channels.splice(0)) channel.close();
  }

  tellState(state: LinkState): void {
    const { TX, RX, CTRL } = XenRingKind;
    for (const [i, { tx, rx }] of this.#pairs.entries()) {
      const { index, ring } = this.tx[i]!;
      state.xenRing(ring.state(TX, index, tx.guestPort));
      state.xenRing(this.rx[i]!.ring.state(RX, index, rx.guestPort));
    }
    const port = this.#controlChannel?.guestPort;
    if (this.control !== undefined && port !== undefined) {
      state.xenRing(this.control.ring.state(CTRL, queueId(0), port));
    }
  }

  #controlSnapshot(): Pick<VifStatus, "control"> {
    const channel = this.#controlChannel;
    if (this.control === undefined || channel === undefined) return {};
    const { guestPort: port, spurious: spuriousEvents } = channel;
    return { control: { ...this.control.snapshot(), port, spuriousEvents } };
  }

  snapshot(): Pick<VifStatus, "queues" | "control"> {
    return {
      queues: this.tx.map((tx, i) => {
        const pair = this.#pairs[i]!;
        return {
          tx: tx.snapshot(),
          rx: this.rx[i]!.snapshot(),
          txPort: pair.tx.guestPort,
          rxPort: pair.rx.guestPort,
          spuriousEvents: pair.tx.spurious + (pair.tx === pair.rx ? 0 : pair.rx.spurious),
        };
      }),
      ...this.#controlSnapshot(),
    };
  }
}
