/** Ifnet.transmit for a driver made by hand. */
import type { Ifnet } from "../../frontend/net/ifnet.ts";
import type { Mbuf } from "../../frontend/net/mbuf.ts";

/** Gives `ifnet` a transmit that calls `one` for each packet until it returns an errno. */
export function transmitEach(ifnet: Ifnet, one: (m: Mbuf) => number): void {
  ifnet.transmit = (mbufs, n) => {
    let sent = 0;
    let errno = 0;
    while (sent < n && errno === 0) {
      errno = one(mbufs[sent]!);
      if (errno === 0) sent++;
    }
    ifnet.transmitErrno = errno;
    return sent;
  };
}
