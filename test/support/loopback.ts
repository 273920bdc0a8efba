/** Two transports joined in one process. Messages are copied, and arrive when a test or the event loop says so. */
import type { Transport } from "../../shared/transport/transport.ts";

/** Runs `deliver` later: it brings one message, or the end of the connection, to the other side. */
export type Carry = (deliver: () => void) => void;

export class LoopbackEnd implements Transport {
  peer: LoopbackEnd | undefined;
  unsentBytes = 0;
  receivedBytes = 0;
  open = true;
  onMessage: (message: Uint8Array) => void = () => {};
  /** Batches that arrive in the place of one. */
  arriving: (message: Uint8Array) => readonly Uint8Array[] = (message) => [message];
  onClose: (code: number, reason: string) => void = () => {};
  readonly #carry: Carry;

  constructor(carry: Carry) {
    this.#carry = carry;
  }

  send(message: Uint8Array, done: () => void): void {
    const copy = Uint8Array.from(message);
    done();
    if (!this.open) return;
    this.unsentBytes += copy.byteLength;
    this.#carry(() => {
      this.unsentBytes -= copy.byteLength;
      const { peer } = this;
      if (peer?.open !== true) return;
      peer.receivedBytes += copy.byteLength;
      for (const batch of peer.arriving(copy)) peer.onMessage(batch);
    });
  }

  close(code: number, reason: string): void {
    this.#carry(() => this.end(code, reason));
  }

  terminate(): void {
    this.close(1006, "terminated");
  }

  cork(): void {}
  uncork(): void {}

  /** Ends both sides now, this one first. */
  end(code: number, reason: string): void {
    if (!this.open) return;
    this.open = false;
    this.onClose(code, reason);
    this.peer?.end(code, reason);
  }
}

/** Two ends: what one sends the other receives. `there` carries what the first one sends. */
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
