/**
 * Follows changes of the interface by `ip link`, through an rtnetlink socket.
 *
 * A message is only a trigger. The state is then read again, and reported when it differs from the
 * last report. So messages need no parser, and a full socket buffer loses nothing.
 *
 * An interface that is moved to another namespace is no longer visible in this one. The kernel gives
 * the holder of the TAP a descriptor of the new namespace (TUNGETDEVNETNS). The thread enters that
 * namespace for as long as it opens two sockets there, and returns. This needs root, but the move
 * needed root, too.
 */

import * as sys from "../reactor/sys.ts";
import { TUNGETDEVNETNS } from "./ifreq.ts";
import { inNamespaceOf } from "./namespace.ts";
import { currentName, failed, linkState, openControlSocket, type TapLink } from "./open.ts";

const NETLINK_ROUTE = 0;
const RTMGRP_LINK = 1;
// struct sockaddr_nl: | family u16 | pad u16 | pid u32 | groups u32 |
const SOCKADDR_NL_BYTES = 12;
const SCRATCH_BYTES = 8192;

export class LinkWatch {
  readonly #tap: number;
  readonly #scratch = new Uint8Array(SCRATCH_BYTES);
  readonly #scratchAddress = sys.addressOf(this.#scratch);
  control: number;
  /** The socket to poll for input. After a move it is another socket. */
  fd: number;
  /** Present name of the interface, also after a rename. */
  name: string;
  state: TapLink;

  /** Closes `control` in the end. Throws TapError when no netlink socket can be opened. */
  constructor(tap: number, control: number, name: string) {
    this.#tap = tap;
    this.control = control;
    this.name = name;
    // Subscribe before the first read of the state, so that no change is lost in between.
    this.fd = openNetlink();
    this.state = linkState(control, name) ?? { mtu: 0, up: false };
  }

  /**
   * Reads the state after the socket became readable. Returns the state when it changed, "gone"
   * when the interface was deleted, else undefined. Calls `moving` before the socket is replaced.
   */
  look(moving: () => void): TapLink | "gone" | undefined {
    let n: number;
    do n = sys.read(this.fd, this.#scratchAddress, SCRATCH_BYTES);
    while (n > 0);
    const name = currentName(this.#tap);
    if (name === undefined) return "gone";
    this.name = name;
    const now = linkState(this.control, name) ?? this.#follow(moving);
    if (now.mtu === this.state.mtu && now.up === this.state.up) return undefined;
    this.state = now;
    return now;
  }

  close(): void {
    sys.close(this.fd);
    sys.close(this.control);
  }

  /**
   * Enters the namespace of the interface. When the kernel refuses that, the state is unknown. The
   * result is then the last MTU and a link that is up, so that traffic goes on.
   */
  #follow(moving: () => void): TapLink {
    const unknown = { mtu: this.state.mtu, up: true };
    const namespace = sys.ioctlByValue(this.#tap, TUNGETDEVNETNS, 0);
    if (namespace < 0) return unknown;
    try {
      const moved = inNamespaceOf(namespace, () => {
        moving();
        this.close();
        this.control = openControlSocket();
        this.fd = openNetlink();
      });
      if (moved === undefined) return unknown;
    } finally {
      sys.close(namespace);
    }
    return linkState(this.control, this.name) ?? unknown;
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
