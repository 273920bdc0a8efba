/**
 * A capture of one NIC from inside its frontend: the batches of its link, and the packets at its
 * interface, between driver and stack.
 *
 *   stack ── ifnet ── bpf ── driver ── rings ── link ── tap ──► device
 *                      '────── Recorder ────────────────'
 *
 * Directions are those of the NIC: out means sent by the NIC. A packet that the driver refused is
 * not recorded.
 */
import { nextFrameId } from "../../shared/capture/frame-id.ts";
import type { CaptureOutput } from "../../shared/capture/output.ts";
import { Recorder } from "../../shared/capture/recorder.ts";
import type { RecorderOptions } from "../../shared/capture/recorder-types.ts";
import { LinkDirection, ringPersonality } from "../../shared/capture/ring-header.ts";
import { Frame, type QueueId } from "../../shared/net/frame.ts";
import { Direction } from "../../shared/pcapng/layout.ts";
import type { LinkTap } from "../../shared/wire/link.ts";
import { LinkState } from "../../shared/wire/link-state.ts";
import { mbufToFrame } from "../net/facts.ts";
import type { BpfTap, Ifnet } from "../net/ifnet.ts";
import type { Mbuf } from "../net/mbuf.ts";
import type { Session } from "../session.ts";

export interface NicCaptureOptions extends RecorderOptions {
  readonly name: string;
  readonly personality: string;
}

export class NicCapture implements BpfTap {
  readonly recorder: Recorder;
  readonly #name: string;
  readonly #frame = new Frame();
  #ifnet: Ifnet | undefined;
  #number = -1;

  /** Records the link from now on, or from its start if there is no link yet. */
  constructor(session: Session, output: CaptureOutput, options: NicCaptureOptions) {
    const { name } = options;
    this.#name = name;
    this.recorder = new Recorder(output, options);
    const { recorder } = this;
    const description = `ring traffic of ${name}: ${options.personality}`;
    const number = recorder.addInterface({ name: `${name}:ring`, description, layer: "ring" });
    const personality = ringPersonality(options.personality);
    const tap: LinkTap = (direction, batch) => {
      const to = direction === "out" ? LinkDirection.TO_DEVICE : LinkDirection.TO_FRONTEND;
      recorder.batch(number, to, session.epoch, personality, batch);
    };
    session.tellState(
      new LinkState((part) => recorder.state(number, session.epoch, personality, part)),
    );
    if (session.isStarted) this.see(session.driver.ifnet);
    session.addTap(tap);
    void recorder.done.then(() => {
      session.removeTap(tap);
      if (this.#ifnet?.bpf === this) this.#ifnet.bpf = undefined;
    });
  }

  /** Records packets at the interface from now on. Does nothing from the second call on. */
  see(ifnet: Ifnet): void {
    if (this.#ifnet !== undefined || this.recorder.ended) return;
    this.#ifnet = ifnet;
    const description = `interface of ${this.#name}, between driver and stack`;
    const { mac } = ifnet;
    this.#number = this.recorder.addInterface({
      name: this.#name,
      description,
      layer: "frame",
      mac,
    });
    ifnet.bpf = this;
  }

  output(m: Mbuf, queue: QueueId): void {
    this.#record(m, Direction.OUT, queue);
  }

  input(m: Mbuf, queue: QueueId): void {
    this.#record(m, Direction.IN, queue);
  }

  #record(m: Mbuf, direction: Direction, queue: QueueId): void {
    if (m.frameId === 0) m.frameId = nextFrameId();
    // No driver makes a chain of more pieces than a frame can have.
    if (!mbufToFrame(m, this.#frame)) return;
    this.recorder.frame(this.#number, direction, queue, this.#frame);
  }
}
