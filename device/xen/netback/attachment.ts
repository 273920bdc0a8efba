/**
 * What a connected interface holds: rings that are mapped, channels that are bound. It is made
 * whole or not at all, and given up as one.
 */
import type { XenQueueState } from "../../../shared/wire/queue-state.ts";
import { RecordType } from "../../../shared/wire/records.ts";
import { CTRL_SLOT_SIZE } from "../../../shared/xen/control.ts";
import { RX_SLOT_SIZE, TX_SLOT_SIZE } from "../../../shared/xen/netif.ts";
import { queueName, VifKey } from "../../../shared/xen/xenbus.ts";
import type { Snapshot } from "../../nic.ts";
import { BackRing } from "./back-ring.ts";
import { Channel } from "./channel.ts";
import type { NetbackConfig, QueueConfig } from "./config.ts";
import { ControlRing } from "./control.ts";
import { Hashing } from "./hash.ts";
import { RxQueue } from "./rx.ts";
import { TxQueue } from "./tx.ts";
import type { Vif } from "./vif.ts";

/** Stands for a channel in a queue's pair of them. */
interface Pair {
  readonly tx: Channel;
  readonly rx: Channel;
}

/** A key of the frontend whose value does not do. Only from here to `open`. */
class KeyError extends Error {}

export class Attachment {
  readonly tx: TxQueue[] = [];
  readonly rx: RxQueue[] = [];
  readonly hashing: Hashing;
  control: ControlRing | undefined;
  readonly #vif: Vif;
  readonly #pairs: Pair[] = [];
  readonly #channels: Channel[] = [];
  #controlChannel: Channel | undefined;
  /** Rings that are mapped but belong to no queue yet. */
  #loose: BackRing[] = [];

  /** Maps and binds all of it. Returns a sentence that names the key where that fails. */
  static open(vif: Vif, config: NetbackConfig): Attachment | string {
    const attached = new Attachment(vif, config.queues.length);
    try {
      config.queues.forEach((queue, i) => {
        const dir = config.queues.length === 1 ? "" : `${queueName(i)}/`;
        attached.#openQueue(i, dir, queue, config.rxNotify);
      });
      if (config.control !== undefined) attached.#openControl(config.control);
      return attached;
    } catch (error) {
      attached.close();
      if (error instanceof KeyError) return error.message;
      throw error;
    }
  }

  private constructor(vif: Vif, queues: number) {
    this.#vif = vif;
    this.hashing = new Hashing(queues);
  }

  #openQueue(index: number, dir: string, queue: QueueConfig, rxNotify: boolean): void {
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
    const ring = BackRing.open(this.#vif.context, reference, slotBytes, type);
    if (typeof ring === "string") throw new KeyError(`${key}: ${ring}`);
    this.#loose.push(ring);
    return ring;
  }

  #openChannel(key: string, port: number, rings: readonly BackRing[]): Channel {
    const { domid, events } = this.#vif.context;
    const channel = Channel.open(events, domid, port, rings, () => this.#vif.wake());
    if (typeof channel === "number") {
      throw new KeyError(`${key}: port ${port} can't be bound (errno ${-channel})`);
    }
    this.#channels.push(channel);
    return channel;
  }

  /** Publishes what every ring has staged, then wakes whom that concerns. True: posted something. */
  publish(): boolean {
    let posted = false;
    for (let i = 0; i < this.tx.length; i++) {
      const pair = this.#pairs[i]!;
      const tx = this.tx[i]!.ring;
      const rx = this.rx[i]!.ring;
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
    for (let i = 0; i < this.#channels.length; i++) this.#channels[i]!.send();
    return posted;
  }

  /** The events that came have been worked on. */
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

  /** Everything is released; nothing may be called after. */
  close(): void {
    for (const queue of this.tx) queue.close();
    for (const queue of this.rx) queue.close();
    this.control?.close();
    for (const ring of this.#loose.splice(0)) ring.close();
    for (const channel of this.#channels.splice(0)) channel.close();
  }

  queues(): XenQueueState {
    const channel = this.#controlChannel;
    return {
      personality: "xen",
      queues: this.tx.map((tx, i) => {
        const pair = this.#pairs[i]!;
        return {
          tx: tx.ring.state(),
          rx: this.rx[i]!.ring.state(),
          txPort: pair.tx.guestPort,
          rxPort: pair.rx.guestPort,
        };
      }),
      control:
        this.control === undefined || channel === undefined
          ? undefined
          : { ring: this.control.ring.state(), port: channel.guestPort },
    };
  }

  #controlSnapshot(): Snapshot {
    const channel = this.#controlChannel;
    if (this.control === undefined || channel === undefined) return {};
    const { guestPort: port, spurious: spuriousEvents } = channel;
    return { control: { ...this.control.snapshot(), port, spuriousEvents } };
  }

  snapshot(): Snapshot {
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
