/**
 * Follows what `ip link` does to the interface, through an rtnetlink socket in the worker's poll
 * set.
 *
 * A message only says "look": the state is then read afresh, and told when it differs from what was
 * told last. So no message has to be understood, and a full socket buffer loses nothing.
 *
 * An interface that is moved to another namespace leaves this one's view. The kernel hands its
 * owner a descriptor of the new namespace (TUNGETDEVNETNS), and the worker, a thread of its own,
 * goes after it; that takes root, which moving took too.
 */
import { TUNGETDEVNETNS } from "./ifreq.ts";
import { currentName, failed, linkState, openControlSocket } from "./open.ts";
import * as sys from "./sys.ts";

const NETLINK_ROUTE = 0;
const RTMGRP_LINK = 1;
// struct sockaddr_nl: | family u16 | pad u16 | pid u32 | groups u32 |
const SOCKADDR_NL_BYTES = 12;
const SCRATCH_BYTES = 8192;

export interface LinkState {
  readonly mtu: number;
  readonly up: boolean;
}

export class LinkWatch {
  readonly #tap: number;
  readonly #scratch = sys.addressOf(new Uint8Array(SCRATCH_BYTES));
  #control: number;
  #netlink: number;
  /** Follows renames. */
  name: string;
  #told: LinkState;

  /** Owns `control` from here on. Throws TapError when there is no netlink socket. */
  constructor(tap: number, control: number, name: string) {
    this.#tap = tap;
    this.#control = control;
    this.name = name;
    // Subscribed before the first look, so that no change falls between.
    this.#netlink = openNetlink();
    this.#told = linkState(control, name) ?? { mtu: 0, up: false };
  }

  /** The socket to poll for input; another one after a move. */
  get fd(): number {
    return this.#netlink;
  }

  get control(): number {
    return this.#control;
  }

  get state(): LinkState {
    return this.#told;
  }

  /** The socket is readable. Returns the state when it changed, "gone" when the interface is. */
  look(): LinkState | "gone" | undefined {
    let n: number;
    do n = sys.read(this.#netlink, this.#scratch, SCRATCH_BYTES);
    while (n > 0);
    const name = currentName(this.#tap);
    if (name === undefined) return "gone";
    this.name = name;
    const now = linkState(this.#control, name) ?? this.#follow();
    if (now.mtu === this.#told.mtu && now.up === this.#told.up) return undefined;
    this.#told = now;
    return now;
  }

  close(): void {
    sys.close(this.#netlink);
    sys.close(this.#control);
  }

  /**
   * Into the namespace where the interface is now. When that is refused the state is unknown: the
   * MTU is taken as it was, and the link as up, so that traffic goes on.
   */
  #follow(): LinkState {
    const unknown = { mtu: this.#told.mtu, up: true };
    const namespace = sys.ioctlByValue(this.#tap, TUNGETDEVNETNS, 0);
    if (namespace < 0) return unknown;
    const entered = sys.setns(namespace, sys.CLONE_NEWNET) === 0;
    sys.close(namespace);
    if (!entered) return unknown;
    this.close();
    this.#control = openControlSocket();
    this.#netlink = openNetlink();
    return linkState(this.#control, this.name) ?? unknown;
  }
}

function openNetlink(): number {
  const fd = sys.socket(
    sys.AF_NETLINK,
    sys.SOCK_RAW | sys.O_NONBLOCK | sys.O_CLOEXEC,
    NETLINK_ROUTE,
  );
  if (fd < 0) throw failed("no rtnetlink socket");
  const address = new Uint8Array(SOCKADDR_NL_BYTES);
  new Uint16Array(address.buffer)[0] = sys.AF_NETLINK;
  new Uint32Array(address.buffer)[2] = RTMGRP_LINK;
  if (sys.bind(fd, address, SOCKADDR_NL_BYTES) !== 0) {
    const why = sys.errno();
    sys.close(fd);
    throw failed("no rtnetlink group", why);
  }
  return fd;
}
