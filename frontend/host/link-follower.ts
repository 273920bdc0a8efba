/**
 * Applies changes that `ip link` makes to the TAP to the driver: MTU, up, down.
 *
 * Only the latest state counts. The follower compares the kernel's state with the driver's, and
 * applies the differences one at a time, because each step exchanges messages with a device. After
 * a change during a step, the follower compares again.
 */

import { nameOf } from "../../shared/bytes/names.ts";
import type { Logger } from "../../shared/log.ts";
import type { TapEnd } from "../../shared/tap/tap.ts";
import { Errno } from "../bus/errno.ts";
import { Iff, type Ifnet } from "../net/ifnet.ts";

export interface FollowerHooks {
  readonly log: Logger;
  /** Brings the interface up or down. The driver sets or clears IFF_UP even if the rest fails. */
  up(): Promise<void>;
  down(): Promise<void>;
}

export class LinkFollower {
  readonly #tap: TapEnd;
  readonly #ifnet: Ifnet;
  readonly #hooks: FollowerHooks;
  #running: Promise<void> | undefined;
  #again = false;
  #stopped = false;

  constructor(tap: TapEnd, ifnet: Ifnet, hooks: FollowerHooks) {
    this.#tap = tap;
    this.#ifnet = ifnet;
    this.#hooks = hooks;
  }

  /** Call after a possible change of the TAP's state. */
  look(): void {
    this.#again = true;
    this.#running ??= this.#run();
  }

  async settled(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  stop(): void {
    this.#stopped = true;
  }

  async #run(): Promise<void> {
    while (this.#again && !this.#stopped) {
      this.#again = false;
      await this.#followMtu();
      await this.#followUp();
    }
    this.#running = undefined;
  }

  async #followMtu(): Promise<void> {
    const { mtu, name } = this.#tap;
    const had = this.#ifnet.mtu;
    if (mtu === had || this.#stopped) return;
    const errno = await this.#ifnet.setMtu(mtu).catch(() => undefined);
    if (errno === 0) {
      this.#hooks.log.info({ tap: name, mtu }, "MTU changed");
      return;
    }
    // Set the kernel's MTU back, so that the kernel sends no frames that the NIC can't carry.
    const stays = this.#ifnet.mtu;
    const why = errno === undefined ? "the driver failed" : nameOf(Errno, errno);
    this.#hooks.log.warn(
      { tap: name, mtu, errno: why },
      `The NIC refuses an MTU of ${mtu} (${why}) and stays at ${stays}: "ip link set dev ${name} mtu ${stays}".`,
    );
    await this.#tap.setMtu(stays).catch((error: Error) => {
      this.#hooks.log.warn({ tap: name, mtu: stays }, error.message);
    });
  }

  async #followUp(): Promise<void> {
    const { up, name } = this.#tap;
    if (up === ((this.#ifnet.flags & Iff.UP) !== 0) || this.#stopped) return;
    try {
      await (up ? this.#hooks.up() : this.#hooks.down());
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      this.#hooks.log.error(
        { tap: name, up },
        `The driver does not go ${up ? "up" : "down"}: ${text}`,
      );
    }
  }
}
