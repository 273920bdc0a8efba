/**
 * Two NICs of one device, in this process but joined by real WebSockets. They come up, send each
 * other frames and go down. Every batch of the first NIC is recorded.
 */
import type { Ifnet } from "../../frontend/net/ifnet.ts";
import { openNic } from "../../frontend/nic.ts";
import { formatMac } from "../../shared/net/ethernet.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { testDevice } from "./device-server.ts";
import { mbufOf } from "./fake-netmap-adapter.ts";
import { frame } from "./nic-frames.ts";
import { eventually } from "./process.ts";
import { entriesOf } from "./wire-acts.ts";

export interface SessionOptions {
  readonly personality: "ena" | "xen";
  /** ENA only: use low latency queues. */
  readonly llq?: boolean;
  /** Lengths of the frames that each NIC sends in one burst. */
  readonly frames: readonly number[];
  /**
   * Number of bursts, 1 by default. A burst begins when all frames of the last one have arrived.
   */
  readonly bursts?: number;
  /** MTU of both NICs; 1500 by default. */
  readonly mtu?: number;
  /** Called with the port before any NIC connects. */
  readonly listening?: (port: number) => Promise<void>;
}

export interface SessionRecord {
  /** Batches from `welcome` on, in the device's view. */
  readonly batches: readonly { readonly direction: "in" | "out"; readonly bytes: Uint8Array }[];
  readonly mac: string;
  readonly peerMac: string;
}

const hasBuffers = (batch: Uint8Array): boolean =>
  entriesOf(batch, RecordType.ENA_RX_DESC, 16).length > 0 ||
  entriesOf(batch, RecordType.XEN_RX_REQ, 8).length > 0;

/** Runs the whole session. */
export async function runNicSession(options: SessionOptions): Promise<SessionRecord> {
  const { personality, llq = false, mtu } = options;
  const batches: SessionRecord["batches"][number][] = [];
  /** NICs whose receive rings have reached the device. */
  const receiving = new Set<string>();
  const device = await testDevice({
    ena: { llq },
    maxQueues: 2,
    tap: (name) => (direction, bytes) => {
      if (name === "a") batches.push({ direction, bytes: Uint8Array.from(bytes) });
      if (direction === "in" && hasBuffers(bytes)) receiving.add(name);
    },
  });
  const { port } = device;
  await options.listening?.(port);
  const open = (name: string) =>
    openNic({ connect: `127.0.0.1:${port}`, name, driver: personality, llq, mtu, agent: "test" });
  const a = await open("a");
  const b = await open("b");
  const ifA = a.ifnet;
  const ifB = b.ifnet;
  let received = 0;
  ifA.input = ifB.input = (m) => {
    received++;
    m.free();
  };
  // The device drops frames for a NIC without receive buffers, and a NIC refuses frames while its
  // link is down. openNic waits only a limited time for the link.
  const ready = () => receiving.size === 2 && [ifA, ifB].every((i) => i.linkState === "up");
  await eventually("both NICs", () => (ready() ? true : undefined));
  const { frames, bursts = 1 } = options;
  for (let burst = 1; burst <= bursts; burst++) {
    sendFrames(ifA, ifB, frames);
    sendFrames(ifB, ifA, frames);
    const expected = 2 * burst * frames.length;
    await eventually("all frames", () => (received === expected ? true : undefined));
  }
  const record = { batches, mac: formatMac(ifA.mac), peerMac: formatMac(ifB.mac) };
  await a.close();
  await b.close();
  await device.close();
  return record;
}

/** Sends frames of the local experimental EtherType as one batch. Throws when one is refused. */
export function sendFrames(from: Ifnet, to: Ifnet, lengths: readonly number[]): void {
  const mbufs = lengths.map((n) => mbufOf(frame(n, 0, [...to.mac], [...from.mac])));
  const sent = from.transmit(mbufs, mbufs.length);
  if (sent < mbufs.length) {
    throw new Error(`${from.name}: frame ${sent} was refused, errno ${from.transmitErrno}`);
  }
}
