/** Two transports joined in one process. A test or the event loop decides when messages arrive. */
import type { Transport } from "../../shared/transport/transport.ts";

/**
 * Runs `deliver` later, which brings a message, or the end of the connection, to the other side.
 */
export type Carry = (deliver: () => void) => void;

export class LoopbackEnd implements Transport {
  peer: LoopbackEnd | undefined;
  unsentBytes = 0;
  receivedBytes = 0;
  open = true;
  onMessage: Transport["onMessage"] = () => {};
  /** Returns the batches that arrive in place of one message. */
  arriving: (message: Uint8Array) => readonly Uint8Array[] = (message) => [message];
  onClose: (code: number, reason: string) => void = () => {};
  readonly #carry: Carry;

  constructor(carry: Carry) {
    this.#carry = carry;
  }

  send(bytes: Uint8Array, at: number, length: number, done: () => void): void {
    const copy = Uint8Array.from(bytes.subarray(at, at + length));
    done();
    if (!this.open) return;
    this.unsentBytes += copy.byteLength;
    this.#carry(() => {
      this.unsentBytes -= copy.byteLength;
      const { peer } = this;
      if (peer?.open !== true) return;
      peer.receivedBytes += copy.byteLength;
      for (const batch of peer.arriving(copy)) peer.onMessage(batch, 0, batch.length);
    });
  }

  close(code: number, reason: string): void {
    this.#carry(() => this.end(code, reason));
  }

  abort(code: number, reason: string): void {
    this.close(code, reason);
  }

  /** Ends both sides now, this one first. */
  end(code: number, reason: string): void {
    if (!this.open) return;
    this.open = false;
    this.onClose(code, reason);
    this.peer?.end(code, reason);
  }
}

/**
 * Two connected ends. `there` carries the messages of the first end, `back` those of the second.
 */
export function loopbackPair(
  there: Carry = setImmediate,
  back: Carry = there,
): [LoopbackEnd, LoopbackEnd] {
  const a = new LoopbackEnd(there);
  const b = new LoopbackEnd(back);
  a.peer = b;
  b.peer = a;
  return [a, b];
}
