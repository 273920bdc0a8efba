/**
 * Two transports joined in one process: for tests, and for anybody who wants a driver and a
 * device without a socket between them. Messages are copied and arrive in a later task, as they
 * would from a socket.
 */
import type { Transport } from "./transport.ts";

class LoopbackEnd implements Transport {
  peer: LoopbackEnd | undefined;
  unsentBytes = 0;
  receivedBytes = 0;
  onMessage: (message: Uint8Array) => void = () => {};
  onClose: (code: number, reason: string) => void = () => {};
  #closed = false;

  get open(): boolean {
    return !this.#closed;
  }

  send(message: Uint8Array, done: () => void): void {
    const copy = Uint8Array.from(message);
    done();
    const { peer } = this;
    if (this.#closed || peer === undefined) return;
    this.unsentBytes += copy.byteLength;
    setImmediate(() => {
      this.unsentBytes -= copy.byteLength;
      if (peer.#closed) return;
      peer.receivedBytes += copy.byteLength;
      peer.onMessage(copy);
    });
  }

  close(code: number, reason: string): void {
    const { peer } = this;
    setImmediate(() => {
      this.#end(code, reason);
      if (peer !== undefined) peer.#end(code, reason);
    });
  }

  terminate(): void {
    this.close(1006, "terminated");
  }

  cork(): void {}
  uncork(): void {}

  #end(code: number, reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.onClose(code, reason);
  }
}

/** Two ends; what one sends the other receives. */
export function loopbackPair(): [Transport, Transport] {
  const a = new LoopbackEnd();
  const b = new LoopbackEnd();
  a.peer = b;
  b.peer = a;
  return [a, b];
}
